/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Requests waiting for a reply (see conn.h), and the rows that finished ones are counted in. */
#ifndef COROOT_FIFO_H
#define COROOT_FIFO_H

static __always_inline void push_n(struct conn *c, u64 t0, u32 kind, u32 n)
{
	u32 tail = c->tail;
	struct run *last = &c->runs[(tail - 1) & (RUNS - 1)];

	if (kind != KIND_WAIT)
		want(c, c->pushed, t0, c->pushed == c->popped);
	if (kind == KIND_WAIT) {
		c->waits_in += n;
		count_n(waits, n);
	}
	if (tail != c->head && last->t0 == t0 && last->kind == kind) {
		last->end += n;
	} else if (tail - c->head >= RUNS) {
		last->end += n;
		count_n(fifo_overflow, n);
	} else {
		struct run *run = &c->runs[tail & (RUNS - 1)];

		run->t0 = t0;
		run->kind = kind;
		run->end = c->pushed + n;
		c->tail = tail + 1;
	}
	c->pushed += n;
}

__noinline int push(struct conn *c, u64 t0, u32 kind)
{
	if (c)
		push_n(c, t0, kind, 1);
	return 0;
}

static __always_inline u32 waiting(const struct conn *c)
{
	return c->pushed - c->popped;
}

/* Kind of the request that the next reply answers. */
static __always_inline u32 next_kind(const struct conn *c)
{
	u32 head = c->head;

	/* a run that has been used up stays at the head until the next reply */
	if (c->runs[head & (RUNS - 1)].end == c->popped && head != c->tail)
		head++;
	return c->runs[head & (RUNS - 1)].kind;
}

/* Forgets all waiting requests: the walkers are out of step and would pair them with the wrong replies. */
static __always_inline void forget(struct conn *c)
{
	c->popped = c->pushed;
	c->head = c->tail;
	c->waits_out = c->waits_in;
	c->kept.state = KEEP_NONE;
}

/* Messages that fit a guess, after which it is taken for true where the first bytes alone may lie. */
#define VOTES 3

static __always_inline bool unsure(const struct conn *c)
{
	return c->mode == MODE_TRIAL && c->votes < VOTES;
}

/* Instead of a latency: messages that nothing answers. */
#define UNTIMED (~0ULL)

/* `proto` has the row's detail above its lowest byte. Global, so that the verifier looks at it once. */
__noinline int record(u32 id, u32 proto, u32 status, u64 ns, u32 n)
{
	struct row_key key = { .edge = id, .proto = proto, .status = status, .detail = proto >> 8 };
	struct row *row;
	u32 bucket;

	if (status == STATUS_NONE)
		return 0;
	row = bpf_map_lookup_elem(&rows, &key);
	bucket = bucket_of(ns);
	if (!row) {
		u32 zero = 0;
		struct row *empty = bpf_map_lookup_elem(&zero_row, &zero);

		if (!empty)
			return 0;
		bpf_map_update_elem(&rows, &key, empty, BPF_NOEXIST);
		row = bpf_map_lookup_elem(&rows, &key);
		if (!row) {
			count_n(row_full, n);
			return 0;
		}
	}
	if (ns == UNTIMED) {
		__sync_fetch_and_add(&row->untimed, n);
		return 0;
	}
	__sync_fetch_and_add(&row->sum_ns, ns * n);
	/* last, so that the verifier has little to follow behind its branches */
	bucket = bucket_of(ns);
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&row->hist[bucket], n);
	return 0;
}

struct settling {
	struct conn *c;
	u64 end;
	u32 status;
	u32 left;
};

static long settle_run(u32 i, struct settling *x)
{
	struct conn *c = x->c;
	struct run *run = &c->runs[c->head & (RUNS - 1)];
	u32 open, n;

	if (!x->left)
		return 1;
	if (c->popped == c->pushed) {
		count_n(unmatched, x->left);
		return 1;
	}
	open = run->end - c->popped;
	if (open == 0 || open > (1u << 31)) {
		c->head++;
		return 0;
	}
	n = open < x->left ? open : x->left;
	if (run->kind == KIND_WAIT) {
		c->waits_out += n;
	} else {
		u64 ns = x->end > run->t0 ? x->end - run->t0 : 0;

		record(c->id, c->proto, x->status, ns, n);
		answered(c, c->popped, n, x->status, ns);
	}
	c->popped += n;
	x->left -= n;
	return x->left == 0;
}

static __noinline int settle_runs(struct conn *c, u32 status, u32 n, u64 end)
{
	struct settling x = { .c = c, .end = end, .status = status, .left = n };

	bpf_loop(2 * RUNS, settle_run, &x, 0);
	return 0;
}

/* Pairs `n` replies, complete at `end`, with the oldest waiting requests; most often they are of one run. */
static __always_inline void settle(struct conn *c, u32 status, u32 n, u64 end)
{
	u32 head = c->head;
	struct run *run = &c->runs[head & (RUNS - 1)];
	u64 ns;

	if (run->end == c->popped && head != c->tail) {
		c->head = ++head;
		run = &c->runs[head & (RUNS - 1)];
	}
	if (waiting(c) < n || run->end - c->popped < n || run->end - c->popped > (1u << 31) || run->kind == KIND_WAIT) {
		settle_runs(c, status, n, end);
		return;
	}
	ns = end > run->t0 ? end - run->t0 : 0;
	record(c->id, c->proto, status, ns, n);
	answered(c, c->popped, n, status, ns);
	c->popped += n;
}

/* The same for walkers that are called from afar: looked at once by the verifier, and two calls less deep. */
__noinline int settle_n(struct conn *c, u32 status, u32 n, u64 end)
{
	struct settling x = { .c = c, .end = end, .status = status, .left = n };

	if (c && n)
		bpf_loop(2 * RUNS, settle_run, &x, 0);
	return 0;
}

#endif
