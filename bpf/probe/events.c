/* SPDX-License-Identifier: MIT */
#include "events.h"
#include "out.h"
#include "../include/frames.h"
#include "../include/shared.h"

#include <string.h>
#include <unistd.h>

static void hold(const void *record, size_t size);
struct ring event_ring = { .what = "events", .width = sizeof(struct event), .most = 8192, .usual = 256, .hold = hold };

static void hold(const void *record, size_t size)
{
	struct event *row = size < sizeof(*row) ? NULL : ring_row(&event_ring);

	if (row)
		memcpy(row, record, sizeof(*row));
}

void events_send(void)
{
	long page = sysconf(_SC_PAGESIZE);

	ring_take(&event_ring);
	if (!event_ring.used)
		return;
	out_begin(FRAME_EVENT);
	for (size_t i = 0; i < event_ring.used; i++) {
		struct frame_event *row = out_row(sizeof(*row));
		const struct event *e = (struct event *)event_ring.rows + i;

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
	ring_clear(&event_ring);
}
