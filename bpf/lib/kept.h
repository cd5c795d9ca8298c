/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Which request's head is kept on a connection, and what became of it: the part of spans that walkers touch. See span.h. */
#ifndef COROOT_KEPT_H
#define COROOT_KEPT_H

/* Set by the loader before it loads: what is off costs nothing, since the verifier drops it. */
const volatile struct {
	u32 spans;
	u32 shift; /* one of 2^shift requests is sampled */
} config SEC(".rodata.config") = { 1, 6 };
#define spans_on config.spans
#define sample_shift config.shift

/* A request begins: its head is wanted if none is kept. What is kept of an answered one is stale. */
static __always_inline void want(struct conn *c, u32 number, u64 t0, bool alone)
{
	struct head *h = &c->kept;

	if (!spans_on || (h->state && !alone))
		return;
	h->state = KEEP_WANTED;
	h->number = number;
	h->first = c->pushed;
	h->t0 = t0;
}

/* Slow or failed requests of which no head was kept. */
__noinline int answered_lone(struct conn *c, u32 n, u32 status, u64 ns)
{
	struct head *h;

	if (!c)
		return 0;
	h = &c->kept;
	h->lone += n;
	if (ns > h->lone_ns)
		h->lone_ns = ns;
	if (!h->lone_status || status > STATUS_OK)
		h->lone_status = status;
	return 0;
}

static __always_inline bool is_failure(u32 status)
{
	return status == STATUS_FAILED || status == STATUS_UNANSWERED;
}

/* Requests `number` to `number + n` were answered. */
static __always_inline void answered(struct conn *c, u32 number, u32 n, u32 status, u64 ns)
{
	struct head *h = &c->kept;

	if (!spans_on)
		return;
	if (status == STATUS_NONE) {
		/* the protocol was only guessed */
		h->state = KEEP_NONE;
		return;
	}
	if (h->state == KEEP_HEAD && h->number - number < n) {
		h->state = KEEP_ANSWERED;
		h->status = status;
		h->ns = ns;
		n--;
	}
	if (n && (is_failure(status) || ns > h->slow_ns))
		answered_lone(c, n, status, ns);
}

#endif
