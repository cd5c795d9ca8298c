/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * PostgreSQL v3, message by message. A unit of work is a Query, a FunctionCall or a Sync; it starts when its message
 * does and ends with ReadyForQuery, and an ErrorResponse anywhere in between makes it a failure. The Sync that ends a
 * COPY from within a running unit starts no new one. TLS, GSS encryption and replication end the walk.
 */
#ifndef COROOT_POSTGRES_H
#define COROOT_POSTGRES_H

enum { PG_STARTUP = 0, PG_TYPED = 1, PG_ENCRYPTION = 2 };
enum { PG_COPIED = 1 };
#define PG_VERSION_3 196608
#define PG_CANCEL 80877102
#define PG_SSL 80877103
#define PG_GSS 80877104

static __always_inline u32 big32(const u8 *p)
{
	return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
}

static __always_inline bool pg_bit(u64 low, u64 high, u8 type)
{
	if (type >= 128)
		return false;
	return ((type < 64 ? low : high) >> (type & 63)) & 1;
}

#define BIT(ch) (1ULL << ((ch) & 63))
/* P B D E C S H Q F X d c f p */
#define PG_REQUESTS                                                                                                     \
	(BIT('P') | BIT('B') | BIT('D') | BIT('E') | BIT('C') | BIT('S') | BIT('H') | BIT('Q') | BIT('F') | BIT('X') | \
	 BIT('d') | BIT('c') | BIT('f') | BIT('p'))
/* R S K Z T D C E I N A n s t G H W d c V v; digits 1 2 3 are in the low word */
#define PG_RESPONSES                                                                                                    \
	(BIT('R') | BIT('S') | BIT('K') | BIT('Z') | BIT('T') | BIT('D') | BIT('C') | BIT('E') | BIT('I') | BIT('N') | \
	 BIT('A') | BIT('n') | BIT('s') | BIT('t') | BIT('G') | BIT('H') | BIT('W') | BIT('d') | BIT('c') | BIT('V') | \
	 BIT('v'))
#define PG_DIGITS (BIT('1') | BIT('2') | BIT('3'))

static __always_inline int pg_message(struct scratch *s, struct conn *c)
{
	struct walk *w = &s->w;
	u8 *p = s->buf + (s->pos & (BUFFER - 1)), type = p[0];
	u32 have = s->len - s->pos, length;

	if (s->direction == REQUEST) {
		if (w->state == PG_STARTUP) {
			u32 code;

			if (have < 8)
				return STEP_MORE;
			length = big32(p);
			code = big32(p + 4);
			if (code == PG_SSL || code == PG_GSS) {
				s->pos += 8;
				c->walks[RESPONSE].state = PG_ENCRYPTION;
				return STEP_ON;
			}
			if (code >> 16 != 3 || length < 8)
				return STEP_LOST;
			s->pos += 8;
			w->skip = length - 8;
			w->state = PG_TYPED;
			return STEP_ON;
		}
		if (have < 5)
			return STEP_MORE;
		length = big32(p + 1);
		if (!pg_bit(0, PG_REQUESTS, type) || length < 4 || length > (1u << 30))
			return STEP_LOST;
		s->pos += 5;
		w->skip = length - 4;
		s->good++;
		if (type == 'Q' || type == 'F') {
			push(c, s->stamp, KIND_PLAIN);
			w->flags = 0;
		} else if (type == 'S') {
			if (!(w->flags & PG_COPIED))
				push(c, s->stamp, KIND_PLAIN);
			w->flags = 0;
		} else if (type == 'c' || type == 'f') {
			if (waiting(c))
				w->flags = PG_COPIED;
		} else if (type != 'd') {
			w->flags = 0;
			/* a statement with a name */
			if (type == 'P' && have > 5 && p[5])
				c->kept.prepares = 1;
		}
		return STEP_ON;
	}
	if (w->state == PG_ENCRYPTION) {
		w->state = PG_TYPED;
		if (type == 'S')
			return STEP_AGAIN;
		if (type == 'G')
			return STEP_OFF;
		if (type == 'N') {
			s->pos += 1;
			return STEP_ON;
		}
	}
	if (have < 5)
		return STEP_MORE;
	length = big32(p + 1);
	if (!pg_bit(PG_DIGITS, PG_RESPONSES, type) || length < 4 || length > (1u << 30))
		return STEP_LOST;
	s->pos += 5;
	w->skip = length - 4;
	s->good++;
	if (type == 'E') {
		w->status = STATUS_FAILED;
	} else if (type == 'Z') {
		if (length != 5)
			return STEP_LOST;
		/* the one that ends authentication answers no request */
		if (waiting(c) > s->count)
			finish(s, c, w->status);
		w->status = STATUS_OK;
	} else if (type == 'W') {
		return STEP_OFF;
	}
	return STEP_ON;
}

/* Several messages at a call, while they are in the window. */
__noinline int pg_step(struct scratch *s, struct conn *c)
{
	u32 i, have;
	int verdict;

	if (!s || !c)
		return STEP_LOST;
	for (i = 0; i < 8; i++) {
		verdict = pg_message(s, c);
		if (verdict != STEP_ON)
			return verdict;
		have = s->len - s->pos;
		if (s->w.skip > have)
			return STEP_ON;
		s->pos += s->w.skip;
		have -= s->w.skip;
		s->w.skip = 0;
		if (!have || (have < LOOKAHEAD && s->left))
			return STEP_ON;
	}
	return STEP_ON;
}

/* First message of a connection: a start-up packet, which names a parameter, or a request for encryption. */
static __always_inline bool pg_startup(const u8 *p, u32 have)
{
	u32 length, code;

	if (have < 8)
		return false;
	length = big32(p);
	code = big32(p + 4);
	return (length == 8 && (code == PG_SSL || code == PG_GSS)) ||
	       (code >> 16 == 3 && (code & 0xffff) < 16 && length > 9 && length <= 10000 && (have < 9 || (u8)(p[8] - 'A') < 58));
}

/* A connection met later: a whole Query, or a batch that ends in Sync. */
static __always_inline bool pg_request(const u8 *p, u32 have, const u8 *last5, u32 size)
{
	if (have < 5)
		return false;
	if (p[0] == 'Q' && big32(p + 1) + 1 == size && last5[4] == 0)
		return true;
	return (p[0] == 'P' || p[0] == 'B' || p[0] == 'E' || p[0] == 'D' || p[0] == 'C') && big32(p + 1) < size &&
	       last5[0] == 'S' && big32(last5 + 1) == 4;
}

static __always_inline bool pg_response(const u8 *p, u32 have)
{
	u32 length;

	if (have == 1)
		return p[0] == 'S' || p[0] == 'N' || p[0] == 'G';
	if (have < 5)
		return false;
	length = big32(p + 1);
	return pg_bit(PG_DIGITS, PG_RESPONSES, p[0]) && length >= 4 && length <= (1u << 30);
}

#endif
