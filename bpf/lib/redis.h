/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Redis: RESP2 and RESP3, both directions by one walker, element by element; inline commands. A reply counts when its
 * last byte has passed; '-' and '!' at the top are failures; pushes ('>') answer nothing. Commands that wait by design
 * (BLPOP, XREAD BLOCK, WAIT ...) have KIND_WAIT: counted in `waits` only, in no row and no waiting figure.
 * SUBSCRIBE, MONITOR and SYNC end the walk on their connection.
 */
#ifndef COROOT_REDIS_H
#define COROOT_REDIS_H

enum { RESP_ELEMENT = 0, RESP_LINE = 1 };
enum { FLAG_PUSH = 1, FLAG_MUTE = 2, FLAG_MAY_WAIT = 4, FLAG_BLANK = 8, FLAG_WAIT = 16 };

#define WORD(a, b, c, d, e, f, g, h)                                                                          \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | (u64)(f) << 40 |      \
	 (u64)(g) << 48 | (u64)(h) << 56)

/* Number of a header line "<type><digits>\r\n" at pos: value << 8 | length of the line; 0 = cut, -1 = none. */
__noinline long resp_number(struct scratch *s)
{
	bool minus = false;
	u64 value = 0;
	u32 have, i;
	u8 *p;

	if (!s)
		return -1;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;

	for (i = 1; i < 14; i++) {
		u8 ch;

		if (i >= have)
			return 0;
		ch = p[i];
		if (ch == '\r') {
			if (i + 1 >= have)
				return 0;
			if (i == 1 || p[i + 1] != '\n')
				return -1;
			return (minus ? 0xffffffffULL << 8 : value << 8) | (i + 2);
		}
		if (ch == '-' && i == 1) {
			minus = true;
			continue;
		}
		ch -= '0';
		if (ch > 9)
			return -1;
		value = value * 10 + ch;
	}
	return -1;
}

/* What a command's name says about its reply: 0, FLAG_WAIT, FLAG_MAY_WAIT or FLAG_MUTE. */
static __always_inline u32 resp_command(const u8 *p, u32 n)
{
	u64 word = *(const u64 *)p | 0x2020202020202020ULL;
	u8 first = word;

	if (n < 4 || n > 12)
		return 0;
	if (first != 'b' && first != 'm' && first != 'p' && first != 's' && first != 'w' && first != 'x')
		return 0;
	if (n < 8)
		word &= (1ULL << (8 * (n & 7))) - 1;
	if (word == WORD('b', 'l', 'p', 'o', 'p', 0, 0, 0) || word == WORD('b', 'r', 'p', 'o', 'p', 0, 0, 0) ||
	    word == WORD('b', 'l', 'm', 'o', 'v', 'e', 0, 0) || word == WORD('b', 'l', 'm', 'p', 'o', 'p', 0, 0) ||
	    word == WORD('b', 'z', 'm', 'p', 'o', 'p', 0, 0) || word == WORD('b', 'r', 'p', 'o', 'p', 'l', 'p', 'u') ||
	    word == WORD('b', 'z', 'p', 'o', 'p', 'm', 'i', 'n') || word == WORD('b', 'z', 'p', 'o', 'p', 'm', 'a', 'x') ||
	    word == WORD('w', 'a', 'i', 't', 0, 0, 0, 0) || word == WORD('w', 'a', 'i', 't', 'a', 'o', 'f', 0))
		return FLAG_WAIT;
	if (word == WORD('x', 'r', 'e', 'a', 'd', 0, 0, 0) || word == WORD('x', 'r', 'e', 'a', 'd', 'g', 'r', 'o'))
		return FLAG_MAY_WAIT;
	if ((word == WORD('s', 'u', 'b', 's', 'c', 'r', 'i', 'b') && n == 9) ||
	    (word == WORD('p', 's', 'u', 'b', 's', 'c', 'r', 'i') && n == 10) ||
	    (word == WORD('s', 's', 'u', 'b', 's', 'c', 'r', 'i') && n == 10) ||
	    word == WORD('m', 'o', 'n', 'i', 't', 'o', 'r', 0) || word == WORD('s', 'y', 'n', 'c', 0, 0, 0, 0) ||
	    word == WORD('p', 's', 'y', 'n', 'c', 0, 0, 0))
		return FLAG_MUTE;
	return 0;
}

static __always_inline int resp_complete(struct scratch *s, struct conn *c)
{
	struct walk *w = &s->w;

	w->done = 0;
	s->good++;
	if (s->direction == RESPONSE) {
		if (!(w->flags & FLAG_PUSH))
			finish(s, c, w->status);
		return STEP_ON;
	}
	if (w->flags & FLAG_MUTE)
		return STEP_OFF;
	if (!(w->flags & FLAG_BLANK))
		push(c, w->t0, w->kind);
	return STEP_ON;
}

static __always_inline int resp_element(struct scratch *s, struct conn *c)
{
	struct walk *w = &s->w;
	u8 *p = s->buf + (s->pos & (BUFFER - 1)), type = p[0];
	u32 have = s->len - s->pos, length;
	u64 value;
	long number;

	if (w->state == RESP_LINE) {
		if (!pass_line(s))
			return STEP_ON;
		w->state = RESP_ELEMENT;
		goto element;
	}
	if (!w->need) {
		w->t0 = s->stamp;
		w->flags = 0;
		w->kind = KIND_PLAIN;
		w->status = STATUS_OK;
		w->word = 0;
		w->need = 1;
		if (s->direction == RESPONSE) {
			if (type == '-' || type == '!')
				w->status = STATUS_FAILED;
			else if (type == '>')
				w->flags = FLAG_PUSH;
		} else if (type != '*') {
			/* an inline command: a line of printable text */
			if (type == '\r' || type == '\n')
				w->flags = FLAG_BLANK;
			else if (type < 'A' || type > 'z')
				return STEP_LOST;
			w->state = RESP_LINE;
			return STEP_ON;
		}
	}
	switch (type) {
	case '+':
		if (have >= 5 && *(u32 *)(p + 1) == 0x0a0d4b4f) { /* OK\r\n */
			s->pos += 5;
			goto element;
		}
		/* fall through */
	case '-':
	case ':':
	case '_':
	case '#':
	case ',':
	case '(':
		w->state = RESP_LINE;
		return STEP_ON;
	case '*':
	case '~':
	case '>':
	case '%':
	case '|':
	case '$':
	case '=':
	case '!':
		break;
	default:
		return STEP_LOST;
	}
	if (have >= 5 && p[2] == '\r' && (u8)(p[1] - '0') <= 9 && p[3] == '\n') {
		/* one digit, by far the most common */
		length = 4;
		value = p[1] - '0';
	} else {
		number = resp_number(s);
		if (number == 0)
			return STEP_MORE;
		if (number < 0)
			return STEP_LOST;
		length = number & 0xff;
		value = (u64)number >> 8;
	}
	if (type == '$' || type == '=' || type == '!') {
		if (value == 0xffffffff) {
			s->pos += length;
			goto element;
		}
		if (value > (1ULL << 30))
			return STEP_LOST;
		if (s->direction == REQUEST) {
			u32 wanted = length + (value < 12 ? (u32)value : 12);

			if (w->word == 0) {
				if (have < wanted)
					return STEP_MORE;
				w->flags |= resp_command(s->buf + ((s->pos + length) & (BUFFER - 1)), value);
				if (w->flags & FLAG_WAIT)
					w->kind = KIND_WAIT;
			} else if ((w->flags & FLAG_MAY_WAIT) && value == 5) {
				u64 arg;

				if (have < wanted)
					return STEP_MORE;
				arg = *(u64 *)(s->buf + ((s->pos + length) & (BUFFER - 1)));
				if (((arg | 0x2020202020ULL) & 0xffffffffffULL) == WORD('b', 'l', 'o', 'c', 'k', 0, 0, 0))
					w->kind = KIND_WAIT;
			}
			if (w->word < 255)
				w->word++;
		}
		s->pos += length;
		w->skip = value + 2;
		/* the common small value is in the window: pass it at once */
		if (w->skip <= s->len - s->pos) {
			s->pos += w->skip;
			w->skip = 0;
		}
		goto element;
	}
	s->pos += length;
	if (value == 0xffffffff || value == 0) {
		if (value == 0 && type == '|')
			return STEP_ON;
		if (s->direction == REQUEST)
			w->flags |= FLAG_BLANK;
		goto element;
	}
	if (value > (1ULL << 24))
		return STEP_LOST;
	if (type == '|')
		w->need += 2 * value;
	else if (type == '%')
		w->need += 2 * value - 1;
	else
		w->need += value - 1;
	return STEP_ON;
element:
	if (--w->need)
		return STEP_ON;
	if (w->skip) {
		w->done = 1;
		return STEP_ON;
	}
	return resp_complete(s, c);
}

/* Several elements at a call, while what they need is in the window. */
__noinline int resp_step(struct scratch *s, struct conn *c)
{
	u32 i, have;
	int verdict;

	if (!s || !c)
		return STEP_LOST;
	for (i = 0; i < 8; i++) {
		verdict = resp_element(s, c);
		if (verdict != STEP_ON || s->w.skip || s->w.done)
			return verdict;
		have = s->len - s->pos;
		if (!have || (have < LOOKAHEAD && s->left))
			return STEP_ON;
	}
	return STEP_ON;
}

static __always_inline bool resp_request(const u8 *p, u32 have)
{
	u32 ping;

	if (have >= 6 && p[0] == '*' && p[1] >= '1' && p[1] <= '9')
		return (p[2] == '\r' && p[3] == '\n' && p[4] == '$') ||
		       (p[2] >= '0' && p[2] <= '9' && (p[3] == '\r' || (p[3] >= '0' && p[3] <= '9')));
	if (have < 6)
		return false;
	ping = *(u32 *)p | 0x20202020;
	return (ping == 0x676e6970 && p[4] == '\r' && p[5] == '\n'); /* inline PING */
}

static __always_inline bool resp_response(u8 first)
{
	return first == '+' || first == '-' || first == ':' || first == '$' || first == '*' || first == '_' ||
	       first == '%' || first == '~' || first == ',' || first == '#' || first == '>' || first == '(' ||
	       first == '=' || first == '|' || first == '!';
}

#endif
