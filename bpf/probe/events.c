/* SPDX-License-Identifier: MIT */
#include "events.h"
#include "out.h"
#include "../include/frames.h"
#include "../include/shared.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_HELD_EVENTS 8192

static struct ring_buffer *ring;
static struct event *held;
static size_t held_used, held_size;
static uint64_t held_lost;

static int hold(void *context, void *data, size_t size)
{
	(void)context;
	if (size < sizeof(struct event))
		return 0;
	if (held_used == MAX_HELD_EVENTS) {
		held_lost++;
		return 0;
	}
	if (held_used == held_size) {
		held_size = held_size ? held_size * 2 : 32;
		held = realloc(held, held_size * sizeof(*held));
		if (!held) {
			fprintf(stderr, "probe: out of memory for %zu events\n", held_size);
			exit(1);
		}
	}
	held[held_used++] = *(struct event *)data;
	return 0;
}

void events_take(void)
{
	ring_buffer__consume(ring);
}

int events_fd(void)
{
	return ring_buffer__epoll_fd(ring);
}

void events_send(void)
{
	long page = sysconf(_SC_PAGESIZE);

	events_take();
	if (!held_used)
		return;
	out_begin(FRAME_EVENT);
	for (size_t i = 0; i < held_used; i++) {
		struct frame_event *row = out_row(sizeof(*row));
		const struct event *e = &held[i];

		row->mono_ns = e->mono_ns;
		row->cgroup = e->cgroup;
		row->memory_cgroup = e->memory_cgroup;
		row->rss_bytes = e->rss * page;
		row->anon_bytes = e->anon * page;
		row->shmem_bytes = e->shmem * page;
		row->kind = e->kind;
		row->pid = e->pid;
		row->ppid = e->ppid;
		row->code = e->code;
		memcpy(row->comm, e->comm, sizeof(row->comm));
		memcpy(row->filename, e->filename, strnlen(e->filename, sizeof(row->filename) - 1));
	}
	out_end();
	held_used = 0;
	if (held_size > 256) {
		free(held);
		held = NULL;
		held_size = 0;
	}
}

int events_start(int map)
{
	ring = ring_buffer__new(map, hold, NULL, NULL);
	return ring ? 0 : -errno;
}

uint64_t events_lost(void)
{
	return held_lost;
}
