/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int hold(void *context, void *record, size_t size)
{
	((struct ring *)context)->hold(record, size);
	return 0;
}

int ring_start(struct ring *ring, int map)
{
	ring->buffer = ring_buffer__new(map, hold, ring, NULL);
	return ring->buffer ? 0 : -errno;
}

int ring_fd(const struct ring *ring)
{
	return ring->buffer ? ring_buffer__epoll_fd(ring->buffer) : -1;
}

void ring_take(struct ring *ring)
{
	if (ring->buffer)
		ring_buffer__consume(ring->buffer);
}

void *ring_row(struct ring *ring)
{
	if (ring->used >= ring->most) {
		ring->lost++;
		return NULL;
	}
	if (ring->used == ring->size) {
		ring->size = ring->size ? ring->size * 2 : 32;
		ring->rows = realloc(ring->rows, ring->size * ring->width);
		if (!ring->rows) {
			fprintf(stderr, "probe: out of memory for %zu %s\n", ring->size, ring->what);
			exit(1);
		}
	}
	return (char *)ring->rows + ring->used++ * ring->width;
}

void ring_clear(struct ring *ring)
{
	ring->used = 0;
	if (ring->size <= ring->usual)
		return;
	free(ring->rows);
	ring->rows = NULL;
	ring->size = 0;
}
