/* SPDX-License-Identifier: MIT */
#include "spans.h"
#include "out.h"
#include "../include/frames.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct frame_span) == sizeof(struct span_event), "a frame's row is the event as it is");

/* what the kernel tells in two ticks, but not more than this */
#define MAX_HELD 32768

static void hold(const void *record, size_t size);
struct ring span_ring = { .what = "spans", .width = sizeof(struct frame_span), .usual = 256, .hold = hold };
static int limits = -1;

static void hold(const void *record, size_t size)
{
	struct frame_span *row = size < sizeof(*row) ? NULL : ring_row(&span_ring);

	if (row)
		memcpy(row, record, sizeof(*row));
}

void spans_send(void)
{
	ring_take(&span_ring);
	if (!span_ring.used)
		return;
	out_begin(FRAME_SPAN);
	for (size_t i = 0; i < span_ring.used; i++) {
		const struct frame_span *held = (struct frame_span *)span_ring.rows + i;
		struct frame_span *row = out_row(sizeof(*row));

		/* memory of the ring is not cleared: what is behind the heads is of other requests */
		memcpy(row, held, offsetof(struct frame_span, head));
		if (row->length > sizeof(row->head))
			row->length = sizeof(row->head);
		if (row->reply_length > sizeof(row->reply))
			row->reply_length = sizeof(row->reply);
		memcpy(row->head, held->head, row->length);
		memcpy(row->reply, held->reply, row->reply_length);
	}
	out_end();
	ring_clear(&span_ring);
}

static void command(const char *line)
{
	unsigned edge;
	unsigned long long us, ns;

	if (sscanf(line, "slow %u %llu", &edge, &us) != 2)
		return;
	ns = us * 1000;
	if (us)
		bpf_map_update_elem(limits, &edge, &ns, BPF_ANY);
	else
		bpf_map_delete_elem(limits, &edge);
}

void spans_command(const char *bytes, size_t size)
{
	static char line[64];
	static size_t used;

	for (size_t i = 0; i < size; i++) {
		if (bytes[i] != '\n') {
			/* of a line that is too long nothing is taken */
			if (used < sizeof(line))
				line[used++] = bytes[i];
			continue;
		}
		if (used < sizeof(line)) {
			line[used] = 0;
			command(line);
		}
		used = 0;
	}
}

void spans_forget(uint32_t edge)
{
	bpf_map_delete_elem(limits, &edge);
}

int spans_start(const struct kernel *kernel, struct control *control, const struct span_options *options)
{
	limits = kernel->slow_limits;
	control->span_slow_ns = options->slow_ms * 1e6;
	for (int i = 0; i < SPAN_CLASSES; i++)
		control->span_budget[i] = options->budget[i], span_ring.most += 2 * options->budget[i];
	if (span_ring.most > MAX_HELD)
		span_ring.most = MAX_HELD;
	return options->off ? 0 : ring_start(&span_ring, kernel->spans);
}
