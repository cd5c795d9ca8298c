/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Spans: heads of requests that were sampled, slow or failed, with the head of the answer, through a ring with a budget
 * for each class. Each connection keeps the head of one waiting request, the oldest when nothing was kept: a copy of what
 * has just been sent or read, at no cost where nothing new begins. Requests behind it are told without their heads when
 * they are slow or fail. Which are sampled follows from the sequence number of the request's first byte, so that both
 * ends of a connection choose the same ones.
 */
#ifndef COROOT_SPAN_H
#define COROOT_SPAN_H

static __always_inline u32 mixed(u32 x)
{
	x ^= x >> 16;
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	return x ^ x >> 16;
}

/* Decides whether a request is sampled: the same at both ends. */
static __always_inline u32 chance_of(const struct head *h)
{
	return mixed(h->seq ? h->seq : (u32)(h->t0 >> 6));
}

/*
 * How often the chance to be sampled is halved now: not in the first half of the second's budget, then once more with each
 * 24th of it, so that it lasts for several hundred times as many, and each told request knows how many it stands for.
 */
static __always_inline u32 thinned(const struct control *ctl)
{
	u32 budget = ctl->span_budget[SPAN_SAMPLED], told = ctl->span_told[SPAN_SAMPLED], level;

	if (told < budget / 2 || !budget)
		return 0;
	level = 1 + (told - budget / 2) * 24 / budget;
	return level < 15 ? level : 15;
}

/* Threshold of an edge. */
static __always_inline u64 slow_of(u32 edge)
{
	u64 *limit = bpf_map_lookup_elem(&slow_limits, &edge);
	struct control *ctl = control();

	return limit ? *limit : ctl ? ctl->span_slow_ns : ~0ULL;
}

/* Gathers the beginning of a chunk that lies in several pieces in the window, which nobody needs any more. Its length. */
__noinline int gather_first(struct scratch *s, u32 size)
{
	struct user_iovec v;
	u32 n, at = 0, i;

	if (!s)
		return 0;
	v.base = s->first;
	v.len = s->first_length;
	for (i = 0; i < 4; i++) {
		n = v.len < size - at ? v.len : size - at;
		asm volatile("%0 &= 0x1ff" : "+r"(n));
		asm volatile("%0 &= 0x1ff" : "+r"(at));
		if (n && bpf_probe_read_user(s->buf + at, n, (void *)v.base))
			break;
		at += n;
		if (at >= size || i >= s->first_iovs ||
		    bpf_probe_read_user(&v, sizeof(v), (void *)(s->first_iov + i * sizeof(v))))
			break;
	}
	return at;
}

/* Copies the beginning of the chunk to memory of `mask` + 1 bytes. Its length. */
#define copy_first(s, to, mask)                                                                  \
	({                                                                                       \
		u32 want_n = (s)->first_size < (mask) ? (s)->first_size : (mask), got_n = 0;                 \
		if ((s)->blind) {                                                                \
		} else if ((s)->first_length >= want_n) {                                        \
			asm volatile("%0 &= " #mask : "+r"(want_n));                             \
			if (bpf_probe_read_user(to, want_n, (void *)(s)->first) == 0)            \
				got_n = want_n;                                                  \
		} else {                                                                         \
			got_n = gather_first(s, want_n);                                         \
			asm volatile("%0 &= " #mask : "+r"(got_n));                              \
			bpf_probe_read_kernel(to, got_n, (s)->buf);                              \
		}                                                                                \
		got_n;                                                                           \
	})

/* Copies from the window, by words: a helper costs ten times as much. Its length. */
__noinline int copy_window(struct scratch *s, struct conn *c)
{
	u32 n, i;

	if (!s || !c)
		return 0;
	n = s->first_size < HEAD - 1 ? s->first_size : HEAD - 1;
	for (i = 0; i < HEAD; i += 8) {
		if (i >= n)
			break;
		*(u64 *)(c->kept.data + i) = *(u64 *)(s->buf + i);
	}
	return n;
}

static __always_inline struct span_thread *thread_of(u32 id)
{
	u32 place = id & (SPAN_THREADS - 1);

	return bpf_map_lookup_elem(&span_threads, &place);
}

/* A server's thread takes on a request, or is done with one. Of HTTP only: others call nobody. */
static __always_inline void thread_takes(struct head *h)
{
	struct span_thread *t = thread_of(h->thread);

	if (!t)
		return;
	/* one that was never answered, or was served by another thread, is forgotten after a minute */
	if (t->id != h->thread || h->t0 - t->t0 > 60000000000ULL) {
		t->id = h->thread;
		t->open = 0;
	}
	t->t0 = h->t0;
	t->sampled = t->open ? 0 : h->sampled;
	t->open++;
	h->entered = 1;
}

static __always_inline void thread_leaves(struct head *h)
{
	struct span_thread *t = thread_of(h->thread);

	h->entered = 0;
	if (t && t->id == h->thread && t->open)
		t->open--;
}

/* The head of the request that has just begun. Calls nothing but the read of what is copied. */
static __always_inline void span_keep(struct scratch *s, struct conn *c)
{
	struct head *h = &c->kept;

	/* of one whose answer was not seen */
	if (h->entered)
		thread_leaves(h);
	h->parent = 0;
	/* of HTTP/2 the frame was kept where it passed by */
	if (c->proto != PROTO_HTTP2) {
		h->seq = s->seq;
		h->length = s->whole ? copy_window(s, c) : copy_first(s, h->data, 0x1ff);
	}
	h->thread = s->thread;
	h->sampled = (chance_of(h) & ((1u << (sample_shift & 15)) - 1)) == 0;
	if (c->role == ROLE_SERVER) {
		if (c->proto == PROTO_HTTP)
			thread_takes(h);
	} else {
		struct span_thread *t = thread_of(h->thread);

		if (t && t->id == h->thread && t->open == 1) {
			h->parent = t->t0;
			/* what belongs to a sampled request is told with it, and stands for none but itself */
			if (t->sampled && !h->sampled)
				h->sampled = 2;
		}
	}
	h->state = KEEP_HEAD;
}

/* Whether the budget has room in one of the classes. */
static __always_inline u32 budgeted(u32 classes)
{
	struct control *ctl = control();
	u32 i, took = 0;

	if (!ctl)
		return 0;
	for (i = 0; i < SPAN_CLASSES; i++) {
		if (!(classes & (1u << i)))
			continue;
		if (__sync_fetch_and_add(&ctl->span_told[i], 1) < ctl->span_budget[i])
			took |= 1u << i;
		else
			__sync_fetch_and_add(&ctl->span_over[i], 1);
	}
	return took;
}

static __always_inline struct span_event *span_begin(struct scratch *s, struct conn *c, u32 classes)
{
	struct span_event *e;

	classes = budgeted(classes);
	if (!classes)
		return NULL;
	e = bpf_ringbuf_reserve(&spans, sizeof(*e), 0);
	if (!e) {
		count(span_full);
		return NULL;
	}
	e->socket = s->cookie;
	e->edge = c->id;
	e->tgid = c->role == ROLE_CLIENT ? c->key.tgid : c->tgid;
	e->initial[0] = s->initial[0];
	e->initial[1] = s->initial[1];
	e->proto = c->proto != PROTO_HTTP2 ? c->proto : c->kept.proto ? c->kept.proto : PROTO_HTTP;
	e->inserted = 0;
	e->classes = classes;
	e->role = c->role;
	e->parent = 0;
	e->seq = 0;
	e->weight = 0;
	e->count = 1;
	e->length = e->reply_length = 0;
	return e;
}

static __always_inline void span_end(struct span_event *e)
{
	bpf_ringbuf_submit(e, bpf_ringbuf_query(&spans, BPF_RB_AVAIL_DATA) > SPAN_RING / 2 ? BPF_RB_FORCE_WAKEUP :
											       BPF_RB_NO_WAKEUP);
}

/* The answer is there: tells the request whose head was kept, if it is to be told, and the others of this chunk. */
__noinline int span_tell(struct scratch *s, struct conn *c)
{
	struct control *ctl = control();
	struct span_event *e;
	struct head *h;
	u32 classes = 0, n, level;

	if (!s || !c || !ctl)
		return 0;
	h = &c->kept;
	if (h->state == KEEP_ANSWERED) {
		level = h->sampled == 1 ? thinned(ctl) : 0;
		if (h->sampled && ((chance_of(h) >> (sample_shift & 15)) & ((1u << level) - 1)) == 0)
			classes |= 1u << SPAN_SAMPLED;
		else if (h->sampled)
			count(span_over[SPAN_SAMPLED]);
		if (is_failure(h->status))
			classes |= 1u << SPAN_FAILED;
		if (h->ns > h->slow_ns)
			classes |= 1u << SPAN_SLOW;
		if (c->proto == PROTO_MYSQL && h->data[4] == 0x16)
			classes |= 1u << SPAN_STATEMENT;
		e = classes ? span_begin(s, c, classes) : NULL;
		if (e) {
			e->t0 = h->t0;
			e->ns = h->ns;
			e->parent = h->parent;
			e->thread = h->thread;
			e->seq = h->seq;
			e->inserted = h->inserted;
			if ((e->classes & (1u << SPAN_SAMPLED)) && h->sampled == 1)
				e->weight = (c->pushed - h->first) << ((sample_shift & 15) + level);
			e->status = h->status;
			n = h->length;
			asm volatile("%0 &= 0x1ff" : "+r"(n));
			e->length = n;
			bpf_probe_read_kernel(e->head, n, h->data);
			e->reply_length = h->status == STATUS_UNANSWERED ? 0 : copy_first(s, e->reply, 0x7f);
			span_end(e);
		}
		h->state = KEEP_NONE;
	}
	if (h->lone) {
		classes = is_failure(h->lone_status) ? 1u << SPAN_FAILED : 1u << SPAN_SLOW;
		count_n(span_headless, h->lone);
		e = span_begin(s, c, classes);
		if (e) {
			e->ns = h->lone_ns;
			e->t0 = s->stamp > h->lone_ns ? s->stamp - h->lone_ns : 0;
			e->thread = s->thread;
			e->status = h->lone_status;
			e->count = h->lone;
			e->reply_length = copy_first(s, e->reply, 0x7f);
			span_end(e);
		}
		h->lone = 0;
		h->lone_ns = 0;
		h->lone_status = 0;
	}
	return 0;
}

/* A statement that later requests name. */
__noinline int span_statement(struct scratch *s, struct conn *c)
{
	struct span_event *e;

	if (!s || !c)
		return 0;
	c->kept.prepares = 0;
	e = span_begin(s, c, 1u << SPAN_STATEMENT);
	if (!e)
		return 0;
	e->t0 = s->stamp;
	e->ns = 0;
	e->thread = s->thread;
	e->status = STATUS_OK;
	e->inserted = s->inserted;
	e->length = copy_first(s, e->head, 0x1ff);
	span_end(e);
	return 0;
}

/* Where the chunk begins, before it is walked over. */
static __always_inline void span_mark(struct scratch *s)
{
	if (!spans_on)
		return;
	s->first = s->base;
	s->first_length = s->segment;
	s->first_size = s->size;
	s->first_iov = s->iov;
	s->first_iovs = s->iovs;
}

#define span_due(c) (spans_on && (((c)->kept.state & 1) || (c)->kept.lone || (c)->kept.prepares))

/* Behind each chunk in which something is due. True: something is to be told. */
static __always_inline bool span_step(struct scratch *s, struct conn *c)
{
	struct head *h = &c->kept;

	if (h->state == KEEP_WANTED && s->direction == REQUEST)
		span_keep(s, c);
	if (h->state == KEEP_ANSWERED) {
		if (h->entered)
			thread_leaves(h);
		if (h->sampled || is_failure(h->status) || h->ns > h->slow_ns ||
		    (c->proto == PROTO_MYSQL && h->data[4] == 0x16))
			return true;
		h->state = KEEP_NONE;
	}
	return h->lone || h->prepares;
}

__noinline int span_told(struct scratch *s, struct conn *c)
{
	if (!s || !c)
		return 0;
	if (c->kept.prepares)
		span_statement(s, c);
	if (c->kept.state == KEEP_ANSWERED || c->kept.lone)
		span_tell(s, c);
	return 0;
}

/* The connection has closed while requests waited. */
static __always_inline void span_abandon(struct conn *c, u64 cookie)
{
	u32 key = 0;
	struct scratch *s;

	if (spans_on && c->kept.entered)
		thread_leaves(&c->kept);
	if (!spans_on || (c->kept.state != KEEP_ANSWERED && !c->kept.lone))
		return;
	s = bpf_map_lookup_elem(&scratches, &key);
	if (!s)
		return;
	s->blind = 1;
	s->first_size = 0;
	s->stamp = bpf_ktime_get_ns();
	s->cookie = cookie;
	s->initial[0] = s->initial[1] = 0;
	span_tell(s, c);
}

#endif
