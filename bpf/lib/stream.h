/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * A chunk (one send or receive) as a stream of bytes over the user's buffers. Walkers see a window of it; what they
 * skip is never read. A token that the chunk's end cuts is carried over to the next chunk, at most LOOKAHEAD bytes.
 */
#ifndef COROOT_STREAM_H
#define COROOT_STREAM_H

struct user_iovec {
	u64 base;
	u64 len;
};

/* Makes the next non-empty iovec the segment. */
static __always_inline int next_segment(struct scratch *s)
{
	struct user_iovec v;

	if (!s->iovs)
		return -1;
	if (bpf_probe_read_user(&v, sizeof(v), (void *)s->iov))
		return -1;
	s->iov += sizeof(v);
	s->iovs--;
	s->base = v.base;
	s->segment = v.len > s->left ? s->left : v.len;
	return 0;
}

/* Brings more of the chunk into the window, from one segment. What is left in the window moves to its front. */
__noinline int refill(struct scratch *s)
{
	u32 rest, n, at;

	if (!s || s->blind)
		return -1;
	rest = s->len - s->pos;
	if (s->pos) {
		u64 *to = (u64 *)s->buf;
		u64 a, b, c, d;

		at = s->pos & (BUFFER - 1);
		a = *(u64 *)(s->buf + at);
		b = *(u64 *)(s->buf + at + 8);
		c = *(u64 *)(s->buf + at + 16);
		d = *(u64 *)(s->buf + at + 24);
		to[0] = a;
		to[1] = b;
		to[2] = c;
		to[3] = d;
		s->pos = 0;
		s->len = rest;
	}
	if (!s->segment)
		return next_segment(s);
	n = s->segment < s->left ? s->segment : s->left;
	if (n > WINDOW)
		n = WINDOW;
	at = s->len;
	/* a window is refilled below LOOKAHEAD bytes only */
	asm volatile("%0 &= 0x3ff" : "+r"(n));
	asm volatile("%0 &= 0x1f" : "+r"(at));
	if (bpf_probe_read_user(s->buf + at, n, (void *)s->base)) {
		count(fault);
		return -1;
	}
	s->len = at + n;
	s->base += n;
	s->segment -= n;
	s->left -= n;
	return 0;
}

/* Passes by w.skip bytes as far as the chunk goes: first in the window, then a segment at a time. */
__noinline int pass(struct scratch *s)
{
	u32 n;

	if (!s)
		return -1;
	n = s->len - s->pos;
	if (n) {
		if (n > s->w.skip)
			n = s->w.skip;
		s->pos += n;
		s->w.skip -= n;
		if (!s->w.skip)
			return 0;
	}
	if (!s->left)
		return 0;
	if (!s->segment)
		return next_segment(s);
	n = s->segment < s->left ? s->segment : s->left;
	if (n > s->w.skip)
		n = s->w.skip;
	s->base += n;
	s->segment -= n;
	s->left -= n;
	s->w.skip -= n;
	return 0;
}

/*
 * Looks at the beginning of a chunk without taking it from the stream, behind a `length` where that came before. Some
 * programs send a head in several pieces.
 */
#define PEEK 56
__noinline int peek(struct scratch *s, u32 length)
{
	u32 n, at = length ? 4 : 0, left, i;
	struct user_iovec v;

	if (!s || s->blind)
		return -1;
	v.base = s->base;
	v.len = s->segment;
	left = s->size;
	for (i = 0; i < 4; i++) {
		n = v.len < left ? v.len : left;
		if (n > PEEK - at)
			n = PEEK - at;
		asm volatile("%0 &= 0x3f" : "+r"(n));
		asm volatile("%0 &= 0x3f" : "+r"(at));
		if (n && bpf_probe_read_user(s->buf + at, n, (void *)v.base))
			return -1;
		at += n;
		left -= n;
		if (at >= PEEK || !left || i >= s->iovs ||
		    bpf_probe_read_user(&v, sizeof(v), (void *)(s->iov + i * sizeof(v))))
			break;
	}
	if (length)
		*(u32 *)s->buf = length;
	return at;
}

static __always_inline u32 lowest_byte(u64 z)
{
	u32 at = 0;

	if (!(z & 0xffffffff)) {
		at = 4;
		z >>= 32;
	}
	if (!(z & 0xffff)) {
		at += 2;
		z >>= 16;
	}
	if (!(z & 0xff))
		at += 1;
	return at;
}

#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL
/* The high bit of each byte of w that is zero (exact up to the first one). */
#define zero_bytes(w) (((w)-ONES) & ~(w) & HIGHS)

/* Distance from pos to the first '\n' within 64 bytes of the window; -1 where there is none. */
__noinline int find_newline(struct scratch *s)
{
	u32 pos, have, i;

	if (!s)
		return -1;
	pos = s->pos & (BUFFER - 1);
	have = s->len - s->pos;

	for (i = 0; i < 64; i += 8) {
		u64 w = *(u64 *)(s->buf + ((pos + i) & (BUFFER - 1))) ^ (ONES * '\n');
		u64 z = zero_bytes(w);

		if (z) {
			i += lowest_byte(z);
			return i < have ? (int)i : -1;
		}
		if (i + 8 >= have)
			return -1;
	}
	return -1;
}

/* Passes by the rest of a line. 1: the line ended; 0: not in this stretch. */
static __always_inline int pass_line(struct scratch *s)
{
	u32 have = s->len - s->pos;
	int at = find_newline(s);

	if (at >= 0) {
		s->pos += at + 1;
		return 1;
	}
	s->pos += have < 64 ? have : 64;
	return 0;
}

/*
 * A step's verdict: go on; token cut; out of step; stop watching the connection; the chunk's rest says nothing; the
 * connection begins anew, with TLS.
 */
enum { STEP_ON = 0, STEP_MORE = 1, STEP_LOST = 2, STEP_OFF = 3, STEP_REST = 4, STEP_AGAIN = 5 };

/* Of these `finish` counts messages that nothing answers. */
static __always_inline bool has_messages(u32 proto)
{
	return proto == PROTO_NATS || proto == PROTO_RABBITMQ;
}

static __noinline int settle_group(struct scratch *s, struct conn *c)
{
	if (has_messages(c->proto)) {
		record(c->id, c->proto, unsure(c) ? STATUS_NONE : s->status, UNTIMED, s->count);
		s->count = 0;
		return 0;
	}
	settle(c, unsure(c) ? STATUS_NONE : s->status, s->count, s->stamp);
	s->count = 0;
	return 0;
}

static __always_inline void finish(struct scratch *s, struct conn *c, u32 status)
{
	if (s->count && s->status != status)
		settle_group(s, c);
	s->status = status;
	s->count++;
}

static __always_inline void flush(struct scratch *s, struct conn *c)
{
	if (s->count)
		settle_group(s, c);
}

/* Passes by what is to be skipped in the window. Whether what is left of it is too little for another part. */
static __always_inline bool used_up(struct scratch *s)
{
	u32 have = s->len - s->pos;

	if (s->w.skip) {
		if (s->w.skip > have)
			return true;
		s->pos += s->w.skip;
		have -= s->w.skip;
		s->w.skip = 0;
	}
	return !have || (have < LOOKAHEAD && s->left);
}

#endif
