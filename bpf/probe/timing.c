/* SPDX-License-Identifier: MIT */
#include "timing.h"
#include "out.h"
#include "table.h"
#include "../include/frames.h"
#include "../include/shared.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 128
#define IDLE_TICKS 600
#define IDLE_TICKS_WHEN_FULL 10

/* What was sent of one; those whose keys have the same hash are chained. */
struct known {
	struct timing_key key;
	struct timing sent;
	uint32_t idle;
	struct known *next;
};

static struct table all;
static struct frame_hist *hists;
static size_t hists_used, hists_size;
static uint32_t rows;

static void *must(void *memory)
{
	if (!memory) {
		fprintf(stderr, "probe: out of memory for timings\n");
		exit(1);
	}
	return memory;
}

static uint64_t hash_of(const struct timing_key *key)
{
	uint64_t hash = key->owner * 0x9e3779b97f4a7c15ULL ^ ((uint64_t)key->device << 8 | key->what);

	return hash ? hash : 1;
}

static struct known *known_of(const struct timing_key *key)
{
	struct known *first = table_get(&all, hash_of(key)), *one;

	for (one = first; one; one = one->next)
		if (memcmp(&one->key, key, sizeof(*key)) == 0)
			return one;
	one = must(calloc(1, sizeof(*one)));
	one->key = *key;
	one->next = first;
	table_put(&all, hash_of(key), one);
	return one;
}

static void forget(struct known *gone)
{
	struct known *first = table_get(&all, hash_of(&gone->key)), **at = &first;

	while (*at != gone)
		at = &(*at)->next;
	*at = gone->next;
	if (first)
		table_put(&all, hash_of(&gone->key), first);
	else
		table_remove(&all, hash_of(&gone->key));
	free(gone);
}

static void grow(struct known *one, const struct timing *now)
{
	struct frame_io *row;
	uint32_t count = 0;

	one->idle++;
	if (memcmp(&one->sent, now, sizeof(*now)) == 0)
		return;
	one->idle = 0;
	row = out_row(sizeof(*row));
	row->owner = one->key.owner;
	row->device = one->key.device;
	row->what = one->key.what;
	row->bytes = now->bytes - one->sent.bytes;
	row->sum_ns = now->sum_ns - one->sent.sum_ns;
	row->errors = now->errors - one->sent.errors;
	for (int b = 0; b < BUCKETS; b++) {
		uint32_t n = now->hist[b] - one->sent.hist[b];

		if (!n)
			continue;
		if (hists_used == hists_size) {
			hists_size = hists_size ? hists_size * 2 : 64;
			hists = must(realloc(hists, hists_size * sizeof(*hists)));
		}
		hists[hists_used++] = (struct frame_hist){ .row = rows, .bucket = b, .count = n };
		count += n;
	}
	/* by the histogram, so that both always agree */
	row->count = count;
	rows++;
	one->sent = *now;
}

uint64_t timing_send(int map, uint64_t *errors)
{
	static struct timing_key keys[BATCH];
	static struct timing values[BATCH];
	static uint64_t before;
	uint32_t limit = before > MAX_TIMINGS / 4 * 3 ? IDLE_TICKS_WHEN_FULL : IDLE_TICKS;
	uint64_t in, out, total = 0;
	int first = 1, error = 0;

	rows = hists_used = 0;
	out_begin(FRAME_IO);
	while (!error) {
		uint32_t n = BATCH;

		error = bpf_map_lookup_batch(map, first ? NULL : &in, &out, keys, values, &n, NULL);
		if (error && errno != ENOENT) {
			(*errors)++;
			break;
		}
		for (uint32_t i = 0; i < n; i++) {
			struct known *one = known_of(&keys[i]);
			struct timing last;

			grow(one, &values[i]);
			if (one->idle < limit)
				continue;
			if (bpf_map_lookup_and_delete_elem(map, &keys[i], &last) == 0)
				grow(one, &last);
			forget(one);
		}
		total += n;
		in = out;
		first = 0;
	}
	out_end();
	if (hists_used)
		out_frame(FRAME_IO_HIST, hists, hists_used * sizeof(*hists));
	before = total;
	return total;
}
