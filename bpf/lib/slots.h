/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Requests that are answered in any order and told apart by an id: the connection's runs are taken as slots, one request
 * each, found by id. A request that finds its neighbourhood full is counted without a slot: a reply whose id is not found
 * answers one of these, with the time of the oldest, so that counts stay exact; the overflow is counted. `head` and
 * `tail` number the requests without a slot, `started` is when the oldest of them began.
 */
#ifndef COROOT_SLOTS_H
#define COROOT_SLOTS_H

#define PROBES 8

static __always_inline bool has_slots(u32 proto)
{
	return (1u << proto) & (1u << PROTO_MONGODB | 1u << PROTO_KAFKA | 1u << PROTO_CASSANDRA | 1u << PROTO_NATS |
				1u << PROTO_DUBBO | 1u << PROTO_DNS | 1u << PROTO_FOUNDATIONDB);
}

/* Protocols that keep more than the order of their requests. */
static __always_inline bool has_more(u32 proto)
{
	return has_slots(proto) || proto == PROTO_RABBITMQ;
}

__noinline int clear_slots(struct conn *c)
{
	if (!c)
		return 0;
	__builtin_memset(c->lanes, 0, sizeof(c->lanes));
	__builtin_memset(c->runs, 0, sizeof(c->runs));
	c->head = c->tail = 0;
	return 0;
}

/* The protocol with a row's detail: of DNS, what the request's kind says of its type, and the answer's code. */
static __always_inline u32 row_of(const struct conn *c, u32 kind, u32 code)
{
	return c->proto == PROTO_DNS ? c->proto | (kind & 0xff00) | code << 16 : c->proto;
}

/* `kind` has the kind of conn.h in its lowest byte; the rest is the protocol's own. */
__noinline int open_slot(struct conn *c, u32 id, u64 t0, u32 kind)
{
	u32 i;

	if (!c)
		return 0;
	if ((kind & 255) == KIND_WAIT) {
		c->waits_in++;
		count(waits);
	} else {
		want(c, id, t0, c->pushed == c->popped);
	}
	c->pushed++;
	for (i = 0; i < PROBES; i++) {
		struct run *run = &c->runs[(id + i) & (RUNS - 1)];

		if (!run->t0) {
			run->end = id;
			run->kind = kind;
			run->t0 = t0;
			return 0;
		}
	}
	if (c->tail == c->head)
		c->started = t0;
	c->tail++;
	count(fifo_overflow);
	return 0;
}

/* Kind of the request with this id; -1 where there is none. */
__noinline long slot_kind(struct conn *c, u32 id)
{
	u32 i;

	if (!c)
		return -1;
	for (i = 0; i < PROBES; i++) {
		struct run *run = &c->runs[(id + i) & (RUNS - 1)];

		if (run->t0 && run->end == id)
			return run->kind;
	}
	return c->tail != c->head ? KIND_PLAIN : -1;
}

/* The reply to the request with this id, complete at `end`. `status` may have a code above its lowest byte. Its latency. */
__noinline long settle_slot(struct conn *c, u32 id, u32 status, u64 end)
{
	u64 t0 = 0;
	u32 i, kind = KIND_PLAIN;

	if (!c)
		return 0;
	for (i = 0; i < PROBES; i++) {
		struct run *run = &c->runs[(id + i) & (RUNS - 1)];

		if (run->t0 && run->end == id) {
			t0 = run->t0;
			kind = run->kind;
			run->t0 = 0;
			break;
		}
	}
	if (!t0) {
		if (c->tail == c->head) {
			count(unmatched);
			return 0;
		}
		t0 = c->started;
		c->head++;
	}
	/* the look at each connection gives up old ones */
	__sync_fetch_and_add(&c->popped, 1);
	if ((kind & 255) == KIND_WAIT)
		c->waits_out++;
	else
		record(c->id, row_of(c, kind, status >> 8), unsure(c) ? STATUS_NONE : status & 255, end > t0 ? end - t0 : 0, 1);
	if ((kind & 255) != KIND_WAIT)
		answered(c, id, 1, status & 255, end > t0 ? end - t0 : 0);
	return end > t0 ? end - t0 : 0;
}

/* The older of a time and the request's in a slot; 0 is none. Global, so that the verifier looks at it once. */
__noinline u64 older_slot(struct conn *c, u32 at, u64 since)
{
	struct run *run;
	u64 t0;

	if (!c)
		return since;
	run = &c->runs[at & (RUNS - 1)];
	t0 = run->t0;
	return t0 && (run->kind & 255) != KIND_WAIT && (!since || t0 < since) ? t0 : since;
}

/* When the oldest request that waits began; 0: none does. */
static __always_inline u64 oldest_slot(struct conn *c)
{
	u64 since = c->tail != c->head ? c->started : 0;
	u32 i;

	for (i = 0; i < RUNS; i++)
		since = older_slot(c, i, since);
	return since;
}

/* 1: the request in this slot was given up. Global, so that the verifier looks at it once. */
__noinline int age_slot(struct conn *c, u32 at, u64 now, u64 patience)
{
	struct run *run;
	u64 t0;

	if (!c)
		return 0;
	run = &c->runs[at & (RUNS - 1)];
	t0 = run->t0;
	if (!t0 || now < t0 + patience || (run->kind & 255) == KIND_WAIT ||
	    __sync_val_compare_and_swap(&run->t0, t0, 0) != t0)
		return 0;
	record(c->id, row_of(c, run->kind, 0), STATUS_UNANSWERED, now - t0, 1);
	answered(c, run->end, 1, STATUS_UNANSWERED, now - t0);
	__sync_fetch_and_add(&c->popped, 1);
	c->aged = 1;
	count(given_up);
	return 1;
}

/*
 * Requests that have waited for longer than anybody does were given up by their client, which tells nobody: they count as
 * unanswered. Returns their number. An answer that comes after all finds no slot.
 */
static __always_inline u32 age_slots(struct conn *c, u64 now, u64 patience)
{
	u32 i, n = 0;

	for (i = 0; i < RUNS; i++)
		n += age_slot(c, i, now, patience);
	return n;
}

/* The connection has closed: what has a slot was not answered. */
static __noinline int abandon_slots(struct conn *c, u64 end)
{
	u32 i;

	for (i = 0; i < RUNS; i++) {
		struct run *run = &c->runs[i];

		if (run->t0 && (run->kind & 255) != KIND_WAIT) {
			record(c->id, row_of(c, run->kind, 0), STATUS_UNANSWERED, end > run->t0 ? end - run->t0 : 0, 1);
			answered(c, run->end, 1, STATUS_UNANSWERED, end > run->t0 ? end - run->t0 : 0);
		}
	}
	if (c->tail != c->head)
		record(c->id, c->proto, STATUS_UNANSWERED, end > c->started ? end - c->started : 0, c->tail - c->head);
	return 0;
}

#endif
