/* SPDX-License-Identifier: MIT */
#include "names.h"
#include "out.h"
#include "../include/frames.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* what the kernel tells in four ticks */
#define MAX_HELD (4 * NAMES_PER_TICK)
#define HEADER 12

static struct ring_buffer *ring;
static struct frame_name *held;
static size_t held_used, held_size;
static uint64_t held_lost;

static struct frame_name *next(void)
{
	if (held_used == MAX_HELD) {
		held_lost++;
		return NULL;
	}
	if (held_used == held_size) {
		held_size = held_size ? held_size * 2 : 32;
		held = realloc(held, held_size * sizeof(*held));
		if (!held) {
			fprintf(stderr, "probe: out of memory for %zu names\n", held_size);
			exit(1);
		}
	}
	memset(&held[held_used], 0, sizeof(*held));
	return &held[held_used++];
}

static int hold(void *context, void *data, size_t size)
{
	const struct name_event *e = data;
	struct frame_name *row;

	(void)context;
	if (size < sizeof(*e) || !(row = next()))
		return 0;
	row->mono_ns = e->mono_ns;
	row->edge = e->edge;
	row->latency_us = e->latency_us;
	row->length = e->length < sizeof(row->data) ? e->length : sizeof(row->data);
	row->type = e->type;
	row->status = e->status;
	row->rcode = e->rcode;
	memcpy(row->data, e->data, row->length);
	return 0;
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

void names_take(void)
{
	ring_buffer__consume(ring);
}

int names_fd(void)
{
	return ring_buffer__epoll_fd(ring);
}

void names_send(void)
{
	names_take();
	if (!held_used)
		return;
	out_frame(FRAME_NAME, held, held_used * sizeof(*held));
	held_used = 0;
	if (held_size > 64) {
		free(held);
		held = NULL;
		held_size = 0;
	}
}

int names_start(int map)
{
	ring = ring_buffer__new(map, hold, NULL, NULL);
	return ring ? 0 : -errno;
}

uint64_t names_lost(void)
{
	return held_lost;
}
