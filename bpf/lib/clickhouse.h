/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * ClickHouse's native protocol: one query at a time per connection, ended by EndOfStream (one byte, 5) or an Exception,
 * which ends in a zero. Blocks of data, compressed or not, are not read: their types would have to be known. A server
 * sends each packet by itself, so there the end is seen as such. A client may receive it behind others: a chunk whose last
 * byte is a 5 ends the query when the next one begins, the connection closes, or nothing has come for half a second, and
 * the query has failed where the next one begins behind another byte. Pings are no requests.
 */
#ifndef COROOT_CLICKHOUSE_H
#define COROOT_CLICKHOUSE_H

/* `need` of the response's walk: what the last chunk of an answer was, which ended at `t0`. */
enum { CH_NOTHING = 0, CH_DATA = 1, CH_ENDED = 2, CH_UNREAD = 3 };
#define CH_QUIET 500000000ULL
#define CH_SMALL 16384
#define CH_SCAN 1000

static __always_inline u8 ch_at(const u8 *p, u32 at)
{
	return p[at & 63];
}

/* A client's greeting: its name, version, and the protocol's revision, which takes three bytes. */
static __always_inline bool ch_hello(const u8 *p, u32 have)
{
	u32 at = 2 + p[1];

	return have >= 12 && !p[0] && p[1] && p[1] <= 40 && have > at + 4 && p[2] >= ' ' && p[3] >= ' ' &&
	       ch_at(p, at) < 100 && ch_at(p, at + 1) < 100 && ch_at(p, at + 2) & 0x80 && ch_at(p, at + 3) & 0x80 &&
	       ch_at(p, at + 4) == 3;
}

/* A Query: id, kind, user ...; a connection met by it wants a sure sign, a UUID or an address at its place. */
static __always_inline bool ch_query(const u8 *p, u32 have, bool met)
{
	u32 at = 2 + p[1];
	u8 kind;

	if (have < 8 || p[0] != 1 || (p[1] && p[2] < ' '))
		return false;
	if (at + 3 > have)
		return !met;
	kind = ch_at(p, at);
	if (kind != 1 && kind != 2)
		return false;
	if (!met || (p[1] == 36 && p[10] == '-' && p[15] == '-'))
		return true;
	at += 2 + ch_at(p, at + 1); /* the user's name */
	if (at >= have)
		return false;
	at += 1 + ch_at(p, at); /* the first query's id */
	return at + 3 < have && ch_at(p, at) >= 9 && ch_at(p, at) <= 47 &&
	       (ch_at(p, at + 1) == '[' || (u8)(ch_at(p, at + 1) - '0') <= 9);
}

/* An Exception: a code, and the name of a class. */
static __always_inline bool ch_exception(const u8 *p, u32 have)
{
	return have >= 20 && p[0] == 2 && !p[3] && !p[4] && p[5] >= 8 && p[5] < 64 && p[6] >= 'A' &&
	       (p[8] == ':' || p[9] == ':' || p[10] == ':' || p[18] == ':');
}

/* What a server may answer first. */
static __always_inline bool ch_fits(const u8 *p, u32 have, u32 size)
{
	if (p[0] == 0)
		return have >= 3 && p[1] && p[2] >= 'A';
	if (p[0] == 1)
		return have >= 9 && !p[1] && ((p[2] == 1 && p[3] < 2 && p[4] == 2) ||
					      (have >= 28 && (p[18] == 0x82 || p[18] == 0x90 || p[18] == 0x02)));
	if (p[0] == 4 || p[0] == 5)
		return size == 1;
	return p[0] == 3 || p[0] == 6 || p[0] == 10 || p[0] == 11 || p[0] == 14 || ch_exception(p, have);
}

static long ch_scan_at(u32 i, struct scratch **on)
{
	struct scratch *s = *on;

	if (*(u64 *)(s->buf + (i & (BUFFER - 1))) != WORD('D', 'B', ':', ':', 'E', 'x', 'c', 'e'))
		return 0;
	s->good++;
	return 1;
}

/* A small chunk that ends in a zero: whether an Exception is behind what came with it. */
__noinline int ch_hidden(struct scratch *s)
{
	u32 n;

	if (!s)
		return 0;
	n = s->size < CH_SCAN ? s->size : CH_SCAN;
	s->good = 0;
	asm volatile("%0 &= 0x3ff" : "+r"(n));
	if (n < 16 || bpf_probe_read_user(s->buf, n, (void *)s->base))
		return 0;
	bpf_loop(n - 8, ch_scan_at, &s, 0);
	return s->good;
}

/* The query at hand has ended; whoever takes `need` away counts it. */
__noinline int ch_end(struct conn *c, u32 status)
{
	struct walk *w;
	u32 was;

	if (!c)
		return 0;
	w = &c->walks[RESPONSE];
	was = w->need;
	if (was && __sync_val_compare_and_swap(&w->need, was, CH_NOTHING) == was && waiting(c))
		settle_n(c, status, 1, w->t0);
	return 0;
}

/* Nothing has come for a while behind what looked like an end. */
__noinline int ch_rest(struct conn *c, u64 now)
{
	if (c && c->walks[RESPONSE].need == CH_ENDED && now > c->walks[RESPONSE].t0 + CH_QUIET)
		ch_end(c, STATUS_OK);
	return 0;
}

/* One chunk; there is no walk. */
__noinline int ch_chunk(struct scratch *s, struct conn *c)
{
	struct walk *w;
	int have;
	u8 last = 0;

	if (!s || !c || s->blind)
		return 0;
	w = &c->walks[RESPONSE];
	if (s->direction == REQUEST) {
		/* blocks of data follow a query */
		if (!s->turned && waiting(c))
			return 0;
		have = peek(s, 0);
		if (have < 1 || (!ch_query(s->buf, have, false) && (s->buf[0] != 4 || s->size != 1)))
			return 0;
		if (waiting(c))
			ch_end(c, w->need == CH_DATA ? STATUS_FAILED : STATUS_OK);
		if (s->buf[0] != 1)
			return 0;
		push(c, s->stamp, KIND_PLAIN);
		return 0;
	}
	c->mode = MODE_PINNED;
	if (!waiting(c))
		return 0;
	w->t0 = s->stamp;
	w->need = CH_UNREAD;
	if (s->segment != s->size || bpf_probe_read_user(&last, 1, (void *)(s->base + s->size - 1)))
		return 0;
	w->need = last == 5 ? CH_ENDED : CH_DATA;
	if (last == 5 && s->size == 1)
		return ch_end(c, STATUS_OK);
	have = peek(s, 0);
	if (have > 0 && (ch_exception(s->buf, have) || (!last && s->size < CH_SMALL && ch_hidden(s))))
		ch_end(c, STATUS_FAILED);
	return 0;
}

#endif
