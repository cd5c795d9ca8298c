/* SPDX-License-Identifier: MIT */
#include "names.h"
#include "out.h"
#include "../include/frames.h"

#include <string.h>

#define HEADER 12

static void hold(const void *record, size_t size);
/* at most what the kernel tells in four ticks */
struct ring name_ring = {
	.what = "names",
	.width = sizeof(struct frame_name),
	.most = 4 * NAMES_PER_TICK,
	.usual = 64,
	.hold = hold,
};

static struct frame_name *next(void)
{
	struct frame_name *row = ring_row(&name_ring);

	if (row)
		memset(row, 0, sizeof(*row));
	return row;
}

static void hold(const void *record, size_t size)
{
	const struct name_event *e = record;
	struct frame_name *row = size < sizeof(*e) ? NULL : next();

	if (!row)
		return;
	row->mono_ns = e->mono_ns;
	row->edge = e->edge;
	row->latency_us = e->latency_us;
	row->length = e->length < sizeof(row->data) ? e->length : sizeof(row->data);
	row->type = e->type;
	row->status = e->status;
	row->rcode = e->rcode;
	memcpy(row->data, e->data, row->length);
}

void names_unanswered(const struct lookup *lookup, uint64_t mono_ns)
{
	struct frame_name *row = next();
	uint8_t *at;

	if (!row)
		return;
	row->mono_ns = mono_ns;
	row->edge = lookup->edge;
	row->latency_us = mono_ns > lookup->t0 ? (mono_ns - lookup->t0) / 1000 : 0;
	row->type = lookup->type;
	row->status = STATUS_UNANSWERED;
	if (!lookup->length || lookup->length > QUESTION)
		return;
	/* a message with one question */
	row->data[5] = 1;
	memcpy(row->data + HEADER, lookup->name, lookup->length);
	at = row->data + HEADER + lookup->length;
	at[0] = lookup->type >> 8;
	at[1] = lookup->type;
	at[3] = 1;
	row->length = HEADER + lookup->length + 4;
}

void names_send(void)
{
	ring_take(&name_ring);
	if (!name_ring.used)
		return;
	out_frame(FRAME_NAME, name_ring.rows, name_ring.used * name_ring.width);
	ring_clear(&name_ring);
}
