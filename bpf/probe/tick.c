/* SPDX-License-Identifier: MIT */
#include "tick.h"
#include "events.h"
#include "names.h"
#include "nat.h"
#include "out.h"
#include "runs.h"
#include "self.h"
#include "spans.h"
#include "table.h"
#include "timing.h"
#include "tls.h"
#include "../include/frames.h"
#include "../include/shared.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 256
#define IDLE_TICKS_WHEN_FULL 10
#define DYING_TICKS 3
#define SECOND_NS 1000000000ULL
/* a question over UDP that waits longer is not answered any more */
#define LOOKUP_NS (10 * SECOND_NS)

typedef uint32_t u32;
typedef uint64_t u64;
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#include "../lib/histogram.h"

/* What was sent of one edge. */
struct known {
	struct edge_key key;
	struct edge sent;
	uint32_t idle;
	uint32_t dying; /* ticks since its key was taken out of the kernel, 0 while it lives */
	uint8_t folded;
	uint64_t *rows; /* ids of its rows */
	size_t rows_used, rows_size;
	uint32_t lookups; /* questions over UDP that wait now */
	uint64_t oldest_lookup;
	uint8_t waiting[PROTOCOLS];
	uint32_t asked; /* tick in which it was asked where it goes, 0 before the first */
	uint16_t went_port;
	uint8_t went[16]; /* all zero until it is known to go elsewhere */
	struct known *next, *previous;
};

static struct kernel *k;
static struct control *ctl;
static struct table by_id, row_table;
static struct known *all;
static uint64_t ticks_skipped, ticks_built, read_errors, evicted;
static uint64_t edge_count, row_count, active_count, timing_count, lookup_count;
static uint32_t idle_ticks;
static int looked; /* at all open files, since the last tick */

/* rows of the frames that are open at the same time are gathered apart */
struct list {
	void *rows;
	size_t used, size, width;
};
static struct list edge_list = { .width = sizeof(struct frame_edge) };
static struct list tcp_list = { .width = sizeof(struct frame_tcp) };
static struct list trouble_list = { .width = sizeof(struct frame_trouble) };
static struct list pending_list = { .width = sizeof(struct frame_pending) };
static struct list nat_list = { .width = sizeof(struct frame_nat) };
static struct list listen_list = { .width = sizeof(struct frame_listen) };
static struct list mount_list = { .width = sizeof(struct frame_mount) };
static struct list pair_list = { .width = sizeof(struct frame_pair) };
static struct list l7_list = { .width = sizeof(struct frame_l7) };
static struct list hist_list = { .width = sizeof(struct frame_hist) };
static struct list gone_list = { .width = sizeof(uint32_t) };

static void *must(void *memory)
{
	if (!memory) {
		fprintf(stderr, "probe: out of memory\n");
		exit(1);
	}
	return memory;
}

static void *add(struct list *list)
{
	void *row;

	if (list->used == list->size) {
		list->size = list->size ? list->size * 2 : 64;
		list->rows = must(realloc(list->rows, list->size * list->width));
	}
	row = (char *)list->rows + list->used++ * list->width;
	memset(row, 0, list->width);
	return row;
}

static void send_list(struct list *list, uint16_t kind)
{
	if (list->used)
		out_frame(kind, list->rows, list->used * list->width);
	list->used = 0;
	if (list->size > 16384) {
		free(list->rows);
		list->rows = NULL;
		list->size = 0;
	}
}

static void define(const struct known *edge)
{
	struct frame_edge *row = add(&edge_list);

	row->id = edge->sent.id;
	row->netns = edge->key.netns;
	row->tgid = edge->sent.tgid;
	row->port = edge->key.port;
	row->role = edge->key.role;
	memcpy(row->peer, edge->key.peer, 16);
	memcpy(row->local, edge->key.local, 16);
}

static void ask_where(struct known *edge, const struct edge_pair *pair)
{
	struct nat_question q = {
		.edge = edge->sent.id,
		.netns = edge->key.netns,
		.tgid = edge->key.tgid,
		.client_port = pair->port,
		.port = edge->key.port,
	};

	if (edge->key.role != ROLE_CLIENT || (edge->asked && ctl->tick - edge->asked < NAT_EVERY))
		return;
	memcpy(q.client, pair->ip, 16);
	memcpy(q.dialled, edge->key.peer, 16);
	if (nat_ask(&q))
		edge->asked = ctl->tick;
}

static void goes_to(uint32_t id, const uint8_t *ip, uint16_t port)
{
	static const uint8_t nowhere[16];
	struct known *edge = table_get(&by_id, id);
	struct frame_nat *row;
	int plain;

	if (!edge)
		return;
	plain = port == edge->key.port && memcmp(ip, edge->key.peer, 16) == 0;
	if (memcmp(edge->went, nowhere, 16) == 0 ? plain : port == edge->went_port && memcmp(ip, edge->went, 16) == 0)
		return;
	memcpy(edge->went, ip, 16);
	edge->went_port = port;
	row = add(&nat_list);
	row->edge = id;
	row->port = port;
	memcpy(row->ip, ip, 16);
}

/* Sends what an edge has grown by. `live` says that its gauges are of this tick. */
static void grow(struct known *edge, const struct edge *now, int live)
{
	struct edge *sent = &edge->sent;
	uint32_t active = live ? now->active : 0;
	uint32_t pairs = now->pair_count - sent->pair_count;

	active_count += active;
	if (now->tgid != sent->tgid) {
		sent->tgid = now->tgid;
		define(edge);
	}
	if (now->opens != sent->opens || now->failed != sent->failed || now->closes != sent->closes ||
	    now->retransmits != sent->retransmits || now->out != sent->out || now->in != sent->in ||
	    now->rtt_count != sent->rtt_count || active != sent->active) {
		struct frame_tcp *row = add(&tcp_list);

		row->edge = sent->id;
		row->opens = now->opens - sent->opens;
		row->failed = now->failed - sent->failed;
		row->closes = now->closes - sent->closes;
		row->retransmits = now->retransmits - sent->retransmits;
		row->bytes_out = now->out - sent->out;
		row->bytes_in = now->in - sent->in;
		row->connect_ns = now->connect_ns - sent->connect_ns;
		row->rtt_us = now->rtt_us - sent->rtt_us;
		row->rtt_count = now->rtt_count - sent->rtt_count;
		row->active = active;
		edge->idle = 0;
	}
	for (int kind = 0; kind < TROUBLES; kind++) {
		if (now->troubles[kind] != sent->troubles[kind]) {
			struct frame_trouble *row = add(&trouble_list);

			row->edge = sent->id;
			row->kind = kind;
			row->count = now->troubles[kind] - sent->troubles[kind];
		}
	}
	if (active)
		edge->idle = 0;
	for (uint32_t i = 0; i < (pairs < PAIRS ? pairs : PAIRS); i++) {
		const struct edge_pair *pair = &now->pairs[(now->pair_count - 1 - i) & (PAIRS - 1)];
		struct frame_pair *row = add(&pair_list);

		row->edge = sent->id;
		row->port = pair->port;
		memcpy(row->ip, pair->ip, 16);
		if (i == 0)
			ask_where(edge, pair);
	}
	for (int p = 0; p < PROTOCOLS; p++) {
		uint32_t proto = p + 1, n = live ? now->waiting[p] : 0;
		uint64_t oldest = n ? now->oldest_ns[p] : 0;

		if (proto == PROTO_DNS && edge->lookups) {
			n += edge->lookups;
			if (edge->oldest_lookup > oldest)
				oldest = edge->oldest_lookup;
			edge->idle = 0;
		}
		if (n || edge->waiting[p]) {
			struct frame_pending *row = add(&pending_list);

			row->edge = sent->id;
			row->protocol = proto;
			row->count = n;
			row->oldest_ns = oldest;
		}
		edge->waiting[p] = n != 0;
	}
	*sent = *now;
	sent->active = active;
}

static void meet(const struct edge_key *key, const struct edge *now, int folded)
{
	struct known *edge = table_get(&by_id, now->id);

	if (!now->id)
		return;
	if (!edge) {
		edge = must(calloc(1, sizeof(*edge)));
		edge->key = *key;
		edge->folded = folded;
		edge->sent.id = now->id;
		edge->sent.tgid = now->tgid;
		edge->next = all;
		if (all)
			all->previous = edge;
		all = edge;
		table_put(&by_id, now->id, edge);
		define(edge);
	}
	edge->idle++;
	grow(edge, now, now->tick == ctl->tick);
}

static void read_edges(int fd, int folded)
{
	static struct edge_key keys[BATCH];
	static struct edge values[BATCH];
	uint64_t in, out;
	int first = 1;

	for (;;) {
		uint32_t n = BATCH;
		int error = bpf_map_lookup_batch(fd, first ? NULL : &in, &out, keys, values, &n, NULL);

		if (error && errno != ENOENT) {
			read_errors++;
			return;
		}
		for (uint32_t i = 0; i < n; i++)
			/* without a number it is just being made */
			if (values[i].id)
				meet(&keys[i], &values[i], folded);
		edge_count += n;
		if (error)
			return;
		in = out;
		first = 0;
	}
}

static uint64_t row_id(const struct row_key *key)
{
	return (uint64_t)key->edge << 32 | (uint64_t)key->detail << 16 | (uint64_t)key->proto << 8 | key->status;
}

static void grow_row(const struct row_key *key, const struct row *now)
{
	struct known *edge = table_get(&by_id, key->edge);
	struct row *sent = table_get(&row_table, row_id(key));
	struct frame_l7 *row;
	uint32_t total = 0;

	/* an edge that was made after the edges were read: next tick */
	if (!edge)
		return;
	if (!sent) {
		sent = must(calloc(1, sizeof(*sent)));
		table_put(&row_table, row_id(key), sent);
		if (edge->rows_used == edge->rows_size) {
			edge->rows_size = edge->rows_size ? edge->rows_size * 2 : 4;
			edge->rows = must(realloc(edge->rows, edge->rows_size * sizeof(*edge->rows)));
		}
		edge->rows[edge->rows_used++] = row_id(key);
	}
	if (sent->untimed == now->untimed && memcmp(sent->hist, now->hist, sizeof(sent->hist)) == 0)
		return;
	edge->idle = 0;
	row = add(&l7_list);
	row->edge = key->edge;
	row->protocol = key->proto;
	row->status = key->status;
	row->detail = key->detail;
	row->sum_ns = now->sum_ns - sent->sum_ns;
	for (int b = 0; b < BUCKETS; b++) {
		uint32_t n = now->hist[b] - sent->hist[b];

		if (n) {
			struct frame_hist *h = add(&hist_list);

			h->row = l7_list.used - 1;
			h->bucket = b;
			h->count = n;
			total += n;
		}
	}
	/* by the histogram, so that both always agree */
	row->count = total + (now->untimed - sent->untimed);
	*sent = *now;
}

static void read_rows(void)
{
	static struct row_key keys[BATCH];
	static struct row values[BATCH];
	uint64_t in, out;
	int first = 1;

	for (;;) {
		uint32_t n = BATCH;
		int error = bpf_map_lookup_batch(k->rows, first ? NULL : &in, &out, keys, values, &n, NULL);

		if (error && errno != ENOENT) {
			read_errors++;
			return;
		}
		for (uint32_t i = 0; i < n; i++)
			grow_row(&keys[i], &values[i]);
		row_count += n;
		if (error)
			return;
		in = out;
		first = 0;
	}
}

/* A question that was not answered in time: a row, and its name. */
static void expire(const struct lookup_key *key, const struct lookup *lookup, uint64_t age, uint64_t mono_ns)
{
	struct frame_l7 *row = add(&l7_list);
	struct frame_hist *h = add(&hist_list);

	row->edge = lookup->edge;
	row->protocol = PROTO_DNS;
	row->status = STATUS_UNANSWERED;
	row->detail = lookup->type < 256 ? lookup->type : 0;
	row->count = lookup->count;
	row->sum_ns = age * lookup->count;
	h->row = l7_list.used - 1;
	h->bucket = bucket_of(age);
	h->count = lookup->count;
	if (key->role == ROLE_CLIENT)
		names_unanswered(lookup, mono_ns);
}

/*
 * Questions over UDP that wait: how many, of which edge and since when. Who asked a server is known with the answer only,
 * so that there one counts as waiting when it is late.
 */
static void read_lookups(uint64_t mono_ns)
{
	static struct lookup_key keys[BATCH];
	static struct lookup values[BATCH];
	uint64_t in, out;
	int first = 1;

	for (struct known *edge = all; edge; edge = edge->next)
		edge->lookups = edge->oldest_lookup = 0;
	for (;;) {
		uint32_t n = BATCH;
		int error = bpf_map_lookup_batch(k->lookups, first ? NULL : &in, &out, keys, values, &n, NULL);

		if (error && errno != ENOENT) {
			read_errors++;
			return;
		}
		lookup_count += n;
		for (uint32_t i = 0; i < n; i++) {
			struct known *edge = table_get(&by_id, values[i].edge);
			uint64_t age = mono_ns > values[i].t0 ? mono_ns - values[i].t0 : 0;
			struct lookup last;

			if (!edge)
				continue;
			if (age < LOOKUP_NS) {
				if (keys[i].role == ROLE_SERVER && age < SECOND_NS)
					continue;
				edge->lookups += values[i].count;
				if (age > edge->oldest_lookup)
					edge->oldest_lookup = age;
			} else if (bpf_map_lookup_and_delete_elem(k->lookups, &keys[i], &last) == 0) {
				expire(&keys[i], &last, mono_ns > last.t0 ? mono_ns - last.t0 : 0, mono_ns);
				edge->idle = 0;
			}
		}
		if (error)
			return;
		in = out;
		first = 0;
	}
}

/*
 * Evicts idle edges in two phases, so that no count is lost to a connection that begins at that moment. First the key
 * is taken out of the kernel: connections that use it get a new edge at the next look at them. Some ticks later nobody
 * can write under the old id any more, and its rows go.
 */
static void evict(void)
{
	int full = edge_count > MAX_EDGES / 4 * 3 || row_count > MAX_ROWS / 4 * 3;
	uint32_t limit = full && idle_ticks > IDLE_TICKS_WHEN_FULL ? IDLE_TICKS_WHEN_FULL : idle_ticks;
	struct known *edge, *next;

	/* without the look at each connection nothing would notice that an edge is still in use */
	if (!k->connections)
		return;
	for (edge = all; edge; edge = next) {
		next = edge->next;
		if (!edge->dying) {
			struct edge last;

			if (edge->idle < limit)
				continue;
			if (bpf_map_lookup_and_delete_elem(edge->folded ? k->folded : k->edges, &edge->key, &last) == 0 &&
			    last.id == edge->sent.id)
				grow(edge, &last, 0);
			edge->dying = 1;
			continue;
		}
		if (++edge->dying < DYING_TICKS)
			continue;
		for (size_t i = 0; i < edge->rows_used; i++) {
			uint64_t id = edge->rows[i];
			struct row_key key = { .edge = id >> 32, .detail = id >> 16, .proto = id >> 8, .status = id };
			struct row last;

			if (bpf_map_lookup_and_delete_elem(k->rows, &key, &last) == 0)
				grow_row(&key, &last);
			free(table_remove(&row_table, id));
		}
		free(edge->rows);
		*(uint32_t *)add(&gone_list) = edge->sent.id;
		table_remove(&by_id, edge->sent.id);
		spans_forget(edge->sent.id);
		if (edge->previous)
			edge->previous->next = edge->next;
		else
			all = edge->next;
		if (edge->next)
			edge->next->previous = edge->previous;
		free(edge);
		evicted++;
	}
}

int tick_start(struct kernel *kernel, uint32_t idle, uint32_t patience, const struct span_options *spans)
{
	void *memory;
	int error;

	k = kernel;
	memory = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, k->controls, 0);
	if (memory == MAP_FAILED)
		return -errno;
	ctl = memory;
	/* so that the look at open files meets a socket, and learns what tells one */
	(void)!socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ctl->patience_ns = patience * 1000000000ULL;
	idle_ticks = idle;
	runs_start(k->object);
	error = spans_start(k, ctl, spans);
	if (!error)
		error = ring_start(&name_ring, k->names);
	return error ? error : ring_start(&event_ring, k->events);
}

/*
 * Ports that are listened on. What was dropped at one that was there from the start counts from then on, of others from
 * the beginning. Those that nobody listens on any more are forgotten.
 */
static void read_listeners(void)
{
	static struct listener_key keys[BATCH];
	static struct listener values[BATCH];
	static struct table known;
	static struct listener_key gone[BATCH];
	static int begun;
	size_t ended = 0;
	uint64_t in, out;
	int first = 1;

	for (;;) {
		uint32_t n = BATCH;
		int error = bpf_map_lookup_batch(k->listeners, first ? NULL : &in, &out, keys, values, &n, NULL);

		if (error && errno != ENOENT) {
			read_errors++;
			return;
		}
		for (uint32_t i = 0; i < n; i++) {
			uint64_t id = (uint64_t)keys[i].netns << 32 | (keys[i].port + 1);
			uint32_t *told = table_get(&known, id);
			struct frame_listen *row;

			if (values[i].tick != ctl->looks) {
				free(table_remove(&known, id));
				if (ended < BATCH)
					gone[ended++] = keys[i];
				continue;
			}
			if (!told) {
				told = must(calloc(1, sizeof(*told)));
				*told = begun ? 0 : values[i].drops;
				table_put(&known, id, told);
			}
			row = add(&listen_list);
			row->netns = keys[i].netns;
			row->port = keys[i].port;
			row->queue = values[i].queue;
			row->limit = values[i].limit;
			row->drops = values[i].drops - *told;
			*told = values[i].drops;
		}
		if (error)
			break;
		in = out;
		first = 0;
	}
	for (size_t i = 0; i < ended; i++)
		bpf_map_delete_elem(k->listeners, &gone[i]);
	begun = 1;
	send_list(&listen_list, FRAME_LISTEN);
}

/* Mounts that are written to; those that were not in the last look are forgotten. */
static void read_mounts(void)
{
	static struct mount_key keys[BATCH], gone[BATCH];
	static uint32_t looks[BATCH];
	size_t ended = 0;
	uint64_t in, out;
	int first = 1;

	for (;;) {
		uint32_t n = BATCH;
		int error = bpf_map_lookup_batch(k->mounts, first ? NULL : &in, &out, keys, looks, &n, NULL);

		if (error && errno != ENOENT) {
			read_errors++;
			return;
		}
		for (uint32_t i = 0; i < n; i++) {
			struct frame_mount *row;

			if (looks[i] != ctl->looks) {
				if (ended < BATCH)
					gone[ended++] = keys[i];
				continue;
			}
			row = add(&mount_list);
			row->tgid = keys[i].tgid;
			row->mount = keys[i].mount;
		}
		if (error)
			break;
		in = out;
		first = 0;
	}
	for (size_t i = 0; i < ended; i++)
		bpf_map_delete_elem(k->mounts, &gone[i]);
	if (!mount_list.used)
		add(&mount_list);
	send_list(&mount_list, FRAME_MOUNT);
}

void tick_files(void)
{
	if (!k->files)
		return;
	ctl->looks++;
	for (ctl->pass = 0; ctl->pass < 2; ctl->pass++)
		if (iterate(k->files))
			read_errors++;
	looked = 1;
}

void tick_skipped(void)
{
	ticks_skipped++;
}

void tick_build(uint64_t tick, uint64_t mono_ns)
{
	struct frame_tick end = { .tick = tick, .mono_ns = mono_ns };

	ticks_built++;
	edge_count = row_count = active_count = lookup_count = 0;
	ctl->tick++;
	if (k->connections && iterate(k->connections))
		read_errors++;
	read_lookups(mono_ns);
	read_edges(k->edges, 0);
	read_edges(k->folded, 1);
	read_rows();
	evict();
	nat_tick(goes_to);
	runs_tick(mono_ns);
	if (looked) {
		read_listeners();
		read_mounts();
	}
	looked = 0;
	tls_tick(ctl->tick);
	send_list(&edge_list, FRAME_EDGE);
	send_list(&tcp_list, FRAME_TCP);
	send_list(&trouble_list, FRAME_TROUBLE);
	send_list(&l7_list, FRAME_L7);
	send_list(&hist_list, FRAME_HIST);
	send_list(&pending_list, FRAME_PENDING);
	send_list(&pair_list, FRAME_PAIR);
	send_list(&nat_list, FRAME_NAT);
	events_send();
	tls_send();
	names_send();
	spans_send();
	timing_count = timing_send(k->timings, &read_errors);
	ctl->names = 0;
	memset(ctl->span_told, 0, sizeof(ctl->span_told));
	send_list(&gone_list, FRAME_GONE);
	self_send(k, ctl,
		  &(struct figures){
			  .edges = edge_count,
			  .rows = row_count,
			  .connections = active_count,
			  .evicted = evicted,
			  .read_errors = read_errors,
			  .skipped = ticks_skipped,
			  .built = ticks_built,
			  .timings = timing_count,
			  .lookups = lookup_count,
		  });
	out_frame(FRAME_TICK, &end, sizeof(end));
}
