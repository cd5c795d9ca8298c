/* SPDX-License-Identifier: MIT */
/*
 * What the kernel tells through a ring, kept in memory until the tick. Bounded: what does not fit is counted. Each user
 * owns one and says how a record becomes a row.
 */
#ifndef COROOT_RING_H
#define COROOT_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring {
	const char *what; /* for a person */
	size_t width; /* of a row */
	size_t most; /* rows */
	size_t usual; /* room for more rows is given back at each tick */
	/* adds a record's row, if it is to have one */
	void (*hold)(const void *record, size_t size);
	void *rows;
	size_t used, size;
	uint64_t lost; /* rows */
	struct ring_buffer *buffer;
};

/* 0, or -errno. */
int ring_start(struct ring *ring, int map);
/* Readable when the ring is filling up between ticks; -1 where it was not started. */
int ring_fd(const struct ring *ring);
/* Moves records out of the ring into memory. */
void ring_take(struct ring *ring);
/* A new row, not cleared; NULL where there is no room, which is counted. */
void *ring_row(struct ring *ring);
/* The rows were sent. */
void ring_clear(struct ring *ring);

#endif
