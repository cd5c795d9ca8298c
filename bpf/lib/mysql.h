/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * MySQL and MariaDB, packet by packet. A request is a command (sequence number 0) that is answered; it ends with its last
 * OK, EOF or ERR packet, after all results of a multi-statement. Which way a result set ends is seen from the packets
 * themselves, so that a connection whose handshake was missed reads the same. Sequence numbers are held against each
 * other; one that does not fit puts the connection out of step. TLS, compression and replication end the walk.
 */
#ifndef COROOT_MYSQL_H
#define COROOT_MYSQL_H

enum {
	MY_IDLE = 0, /* between two answers; at a client: between two commands */
	MY_ANSWER = 1, /* another first packet follows: more results, after an upload, in a login */
	MY_COLUMNS = 2, /* in column definitions */
	MY_AFTER = 3, /* after them: an EOF in the old way, else the first row */
	MY_ROWS = 4,
	MY_PREPARED = 5, /* in the definitions of a prepared statement */
	MY_LOGIN = 6, /* at a client: before its first command */
};
enum { MY_LONG = 1 };
#define MY_PACKET 0xffffff
#define MY_COMPRESS (1u << 5 | 1u << 26)
#define MY_SSL (1u << 11)
#define MY_MORE_RESULTS 8
#define MY_CURSOR 64

static __always_inline u32 little24(const u8 *p)
{
	return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16;
}

static __always_inline u32 my_length_of(u8 first)
{
	return first < 0xfb ? 1 : first == 0xfc ? 3 : first == 0xfd ? 4 : 9;
}

/* Status flags of an OK packet, or of an EOF packet where it is 5 bytes long. */
static __always_inline u32 my_flags(const u8 *p, u32 length)
{
	u32 at = 5;

	if (length == 5)
		return p[7];
	at += my_length_of(p[at]);
	at += my_length_of(p[at]);
	return length >= 7 ? p[at] : 0;
}

static __always_inline int my_command(struct scratch *s, struct conn *c, u8 command)
{
	u32 kind = KIND_PLAIN;

	switch (command) {
	case 0x01: /* quit */
	case 0x18: /* data of a long parameter */
	case 0x19: /* close of a statement */
		return STEP_ON;
	case 0x12: /* replication */
	case 0x1e:
		return STEP_OFF;
	case 0x16:
		kind = KIND_PREPARE;
		break;
	case 0x04: /* list of fields */
	case 0x1c: /* fetch from a cursor */
		kind = KIND_ROWS;
		break;
	case 0x09: /* statistics */
	case 0x0d: /* debug */
	case 0x1b: /* option */
		kind = KIND_LINE;
		break;
	case 0x11: /* change of user */
		kind = KIND_LOGIN;
		break;
	case 0x00:
		return STEP_LOST;
	default:
		if (command > 0x1f && command != 0xfa)
			return STEP_LOST;
	}
	push(c, s->stamp, kind);
	return STEP_ON;
}

static __always_inline int my_request(struct scratch *s, struct conn *c, const u8 *p, u32 have, u32 length)
{
	struct walk *w = &s->w;
	u8 seq = p[3];

	if (w->flags & MY_LONG)
		return STEP_ON;
	if (seq) {
		if (w->state == MY_LOGIN && seq == 1 && length >= 4) {
			u32 flags;

			if (have < 8)
				return STEP_MORE;
			flags = *(const u32 *)(p + 4);
			if ((flags & MY_SSL) && length == 32)
				return STEP_AGAIN;
			if (flags & MY_COMPRESS)
				return STEP_OFF;
			return STEP_ON;
		}
		/* steps of a login, or data of a file that the server has asked for */
		return w->state == MY_LOGIN || c->walks[RESPONSE].state == MY_ANSWER ? STEP_ON : STEP_LOST;
	}
	if (have < 5)
		return STEP_MORE;
	if (!length)
		return STEP_LOST;
	w->state = MY_IDLE;
	s->good++;
	return my_command(s, c, p[4]);
}

static __always_inline int my_complete(struct scratch *s, struct conn *c, u32 status)
{
	s->w.state = MY_IDLE;
	s->good++;
	finish(s, c, status);
	return STEP_ON;
}

/* At an OK or EOF packet that ends a result. */
static __always_inline int my_result(struct scratch *s, struct conn *c, u32 flags)
{
	if (!(flags & MY_MORE_RESULTS))
		return my_complete(s, c, STATUS_OK);
	s->w.state = MY_ANSWER;
	return STEP_ON;
}

static __always_inline int my_answer(struct scratch *s, struct conn *c, const u8 *p, u32 length, u32 kind)
{
	struct walk *w = &s->w;
	u8 first = p[4];

	if (first == 0xff)
		return my_complete(s, c, STATUS_FAILED);
	if (kind == KIND_LINE)
		return my_complete(s, c, STATUS_OK);
	if (kind == KIND_LOGIN && first) {
		w->state = MY_ANSWER;
		return STEP_ON;
	}
	if (kind == KIND_ROWS) {
		if (first == 0xfe)
			return my_complete(s, c, STATUS_OK);
		w->state = MY_ROWS;
		return STEP_ON;
	}
	if (first == 0 && kind == KIND_PREPARE) {
		w->need = *(const u16 *)(p + 9) + *(const u16 *)(p + 11);
		w->state = MY_PREPARED;
		return w->need ? STEP_ON : my_complete(s, c, STATUS_OK);
	}
	if (first == 0)
		return my_result(s, c, my_flags(p, length));
	if (first == 0xfe)
		return my_complete(s, c, STATUS_OK);
	if (first == 0xfb) {
		w->state = MY_ANSWER;
		return STEP_ON;
	}
	/* columns; MariaDB leaves their definitions out where a byte after the number says so */
	w->need = first == 0xfc ? *(const u16 *)(p + 5) : first;
	w->state = first < 0xfb && length == 2 && p[5] == 0 ? MY_AFTER : MY_COLUMNS;
	return STEP_ON;
}

static __always_inline int my_response(struct scratch *s, struct conn *c, const u8 *p, u32 have, u32 length)
{
	struct walk *w = &s->w;
	u8 first, seq = p[3], expected = w->word;

	if (w->flags & MY_LONG)
		return seq == expected ? STEP_ON : STEP_LOST;
	if (!length)
		return STEP_LOST;
	/* an OK packet's flags are among its first 21 bytes */
	if (have < 4 + (length < 21 ? length : 21))
		return STEP_MORE;
	first = p[4];
	if (w->state == MY_IDLE) {
		if (s->count)
			settle_group(s, c);
		if (!waiting(c)) {
			/* greeting and login; or what followed an answer */
			if (!first && seq >= 2)
				s->good++;
			return STEP_ON;
		}
		/* an answer counts on from the command, which may have been of several packets */
		if (seq != 1 && seq != c->walks[REQUEST].word)
			return seq == expected ? STEP_ON : STEP_LOST;
		return my_answer(s, c, p, length, next_kind(c));
	}
	if (w->state == MY_ANSWER)
		return my_answer(s, c, p, length, next_kind(c));
	if (seq != expected)
		return STEP_LOST;
	if (first == 0xff)
		return my_complete(s, c, STATUS_FAILED);
	if (w->state == MY_PREPARED) {
		if ((first == 0xfe && length == 5) || --w->need)
			return STEP_ON;
		return my_complete(s, c, STATUS_OK);
	}
	if (w->state == MY_COLUMNS) {
		if (!--w->need)
			w->state = MY_AFTER;
		return STEP_ON;
	}
	if (w->state == MY_AFTER && first == 0xfe && length == 5) {
		/* the rows of a cursor are fetched by commands of their own */
		if (p[7] & MY_CURSOR)
			return my_result(s, c, p[7]);
		w->state = MY_ROWS;
		return STEP_ON;
	}
	w->state = MY_ROWS;
	if (first == 0xfe && length < MY_PACKET)
		return my_result(s, c, my_flags(p, length));
	return STEP_ON;
}

/* One packet; global, so that the verifier looks at it once. */
__noinline int my_packet(struct scratch *s, struct conn *c)
{
	struct walk *w;
	u32 have, length;
	int verdict;
	u8 *p;

	if (!s || !c)
		return STEP_LOST;
	w = &s->w;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	if (have < 4)
		return STEP_MORE;
	length = little24(p);
	verdict = s->direction == REQUEST ? my_request(s, c, p, have, length) : my_response(s, c, p, have, length);
	if (verdict != STEP_ON)
		return verdict;
	w->word = p[3] + 1;
	w->flags = length == MY_PACKET ? MY_LONG : 0;
	s->pos += 4;
	w->skip = length;
	return STEP_ON;
}

/* Several packets at a call, while they are in the window. */
__noinline int my_step(struct scratch *s, struct conn *c)
{
	u32 i, have;
	int verdict;

	if (!s || !c)
		return STEP_LOST;
	for (i = 0; i < 8; i++) {
		verdict = my_packet(s, c);
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

/* First message of a connection: the server's greeting, or the header of it where the client reads that alone. */
static __always_inline bool my_greeting(const u8 *p, u32 have)
{
	if (have < 4 || p[3] || p[2] || p[1] || p[0] < 32)
		return false;
	return have == 4 || (p[4] == 10 && p[5] >= '0' && p[5] <= '9');
}

/* A connection met later: a whole command, or the header of one where the server reads that alone. */
static __always_inline bool my_met(const u8 *p, u32 have, u32 size)
{
	u32 length;

	if (have < 4 || p[3])
		return false;
	length = little24(p);
	if (size == 4)
		return length && length < 65536;
	return length + 4 == size && (p[4] == 0x02 || p[4] == 0x03 || p[4] == 0x0e || (p[4] == 0x16 && size > 8) ||
				      (p[4] == 0x17 && size >= 14) || (p[4] == 0xfa && size >= 11));
}

static __always_inline bool my_fits(const struct conn *c, const u8 *p, u32 have)
{
	if (have < 4)
		return true;
	if (c->walks[REQUEST].state == MY_LOGIN)
		return p[3] < 16;
	return p[3] == 1 && little24(p);
}

#endif
