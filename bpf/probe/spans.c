/* SPDX-License-Identifier: MIT */
#include "spans.h"
#include "out.h"
#include "../include/frames.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct frame_span) == sizeof(struct span_event), "a frame's row is the event as it is");

/* what the kernel tells in two ticks, but not more than this */
#define MAX_HELD 32768

static struct ring_buffer *ring;
static struct frame_span *held;
static size_t held_used, held_size, held_most;
static uint64_t held_lost;
static int limits = -1;

static int hold(void *context, void *data, size_t size)
{
	(void)context;
	if (size < sizeof(*held))
		return 0;
	if (held_used >= held_most) {
		held_lost++;
		return 0;
	}
	if (held_used == held_size) {
		held_size = held_size ? held_size * 2 : 32;
		held = realloc(held, held_size * sizeof(*held));
		if (!held) {
			fprintf(stderr, "probe: out of memory for %zu spans\n", held_size);
			exit(1);
		}
	}
	memcpy(&held[held_used++], data, sizeof(*held));
	return 0;
}

void spans_take(void)
{
	if (ring)
		ring_buffer__consume(ring);
}

int spans_fd(void)
{
	return ring ? ring_buffer__epoll_fd(ring) : -1;
}

void spans_send(void)
{
	spans_take();
	if (!held_used)
		return;
	out_begin(FRAME_SPAN);
	for (size_t i = 0; i < held_used; i++) {
		struct frame_span *row = out_row(sizeof(*row));

		/* memory of the ring is not cleared: what is behind the heads is of other requests */
		memcpy(row, &held[i], offsetof(struct frame_span, head));
		if (row->length > sizeof(row->head))
			row->length = sizeof(row->head);
		if (row->reply_length > sizeof(row->reply))
			row->reply_length = sizeof(row->reply);
		memcpy(row->head, held[i].head, row->length);
		memcpy(row->reply, held[i].reply, row->reply_length);
	}
	out_end();
	held_used = 0;
	if (held_size > 256) {
		free(held);
		held = NULL;
		held_size = 0;
	}
}

uint64_t spans_lost(void)
{
	return held_lost;
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
		control->span_budget[i] = options->budget[i], held_most += 2 * options->budget[i];
	if (held_most > MAX_HELD)
		held_most = MAX_HELD;
	if (options->off)
		return 0;
	ring = ring_buffer__new(kernel->spans, hold, NULL, NULL);
	return ring ? 0 : -errno;
}
