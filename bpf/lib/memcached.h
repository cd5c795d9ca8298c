/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Memcached: text commands, meta commands and the binary protocol, told apart message by message. A request is a command
 * that is answered; it ends with the last byte of its reply. A miss, a value that exists and one that was not stored are
 * answers like any other; ERROR, CLIENT_ERROR, SERVER_ERROR and binary error codes are failures. Commands that want no
 * answer (noreply, q) are no requests; binary ones (GetQ, SetQ ...) belong to the next command that has an answer and
 * make it a failure when one of them fails. `watch` ends the walk on its connection.
 */
#ifndef COROOT_MEMCACHED_H
#define COROOT_MEMCACHED_H

enum { MC_START = 0, MC_WORDS = 1, MC_LINE = 2 };
enum { MC_META = 1, MC_QUIET = 2, MC_INSIDE = 4, MC_PART = 8, MC_BAD = 16, MC_SILENT = 32 };
#define MC_REQUEST 0x80
#define MC_RESPONSE 0x81

/* Distance from pos to the first byte that is no letter (space, line end) within 64 bytes of the window; -1: none. */
__noinline int find_gap(struct scratch *s)
{
	u32 pos, have, i;

	if (!s)
		return -1;
	pos = s->pos & (BUFFER - 1);
	have = s->len - s->pos;
	for (i = 0; i < 64; i += 8) {
		u64 w = *(u64 *)(s->buf + ((pos + i) & (BUFFER - 1)));
		u64 z = (w - ONES * 0x21) & ~w & HIGHS;

		if (z) {
			i += lowest_byte(z);
			return i < have ? (int)i : -1;
		}
		if (i + 8 >= have)
			return -1;
	}
	return -1;
}

/* The first word of a line as a number, at most 8 letters of it. */
static __always_inline u64 mc_word(const u8 *p)
{
	u64 w = *(const u64 *)p;
	u64 z = (w - ONES * 0x21) & ~w & HIGHS;

	return z ? w & (((z & -z) >> 7) - 1) : w;
}

/* Which word of a text command's line is the length of a value that follows; 0: none. */
static __always_inline u32 mc_value_word(u64 word)
{
	if (word == WORD('s', 'e', 't', 0, 0, 0, 0, 0) || word == WORD('a', 'd', 'd', 0, 0, 0, 0, 0) ||
	    word == WORD('c', 'a', 's', 0, 0, 0, 0, 0) || word == WORD('r', 'e', 'p', 'l', 'a', 'c', 'e', 0) ||
	    word == WORD('a', 'p', 'p', 'e', 'n', 'd', 0, 0) || word == WORD('p', 'r', 'e', 'p', 'e', 'n', 'd', 0))
		return 4;
	return word == WORD('m', 's', 0, 0, 0, 0, 0, 0) ? 2 : 0;
}

static __always_inline bool mc_meta(u64 word)
{
	u8 second = word >> 8;

	return (u8)word == 'm' && word >> 16 == 0 &&
	       (second == 'g' || second == 's' || second == 'd' || second == 'a' || second == 'n' || second == 'e');
}

/* A connection met at any time: a command at its beginning and a line's end at its end (or a value), or a binary head. */
static __always_inline bool mc_request(const u8 *p, u32 have, bool ended)
{
	u64 word;

	if (p[0] == MC_REQUEST)
		return have >= 24 && p[1] <= 0x24 && p[4] <= 20 && !p[5] && !p[6] && !p[7] &&
		       p[4] + ((u32)p[2] << 8 | p[3]) <= big32(p + 8);
	if (have < 4)
		return false;
	word = mc_word(p);
	if (mc_value_word(word))
		return true;
	if (!ended)
		return false;
	return mc_meta(word) || word == WORD('g', 'e', 't', 0, 0, 0, 0, 0) ||
	       word == WORD('g', 'e', 't', 's', 0, 0, 0, 0) || word == WORD('g', 'a', 't', 0, 0, 0, 0, 0) ||
	       word == WORD('g', 'a', 't', 's', 0, 0, 0, 0) || word == WORD('d', 'e', 'l', 'e', 't', 'e', 0, 0) ||
	       word == WORD('i', 'n', 'c', 'r', 0, 0, 0, 0) || word == WORD('d', 'e', 'c', 'r', 0, 0, 0, 0) ||
	       word == WORD('t', 'o', 'u', 'c', 'h', 0, 0, 0) || word == WORD('s', 't', 'a', 't', 's', 0, 0, 0) ||
	       word == WORD('v', 'e', 'r', 's', 'i', 'o', 'n', 0) || word == WORD('f', 'l', 'u', 's', 'h', '_', 'a', 'l');
}

static __always_inline bool mc_fits(const u8 *p)
{
	u64 word = mc_word(p);

	if (p[0] == MC_RESPONSE)
		return p[1] <= 0x24 && !p[5];
	return (u8)(p[0] - '0') <= 9 || word == WORD('V', 'A', 'L', 'U', 'E', 0, 0, 0) ||
	       word == WORD('E', 'N', 'D', 0, 0, 0, 0, 0) || word == WORD('S', 'T', 'O', 'R', 'E', 'D', 0, 0) ||
	       word == WORD('N', 'O', 'T', '_', 'S', 'T', 'O', 'R') || word == WORD('N', 'O', 'T', '_', 'F', 'O', 'U', 'N') ||
	       word == WORD('E', 'X', 'I', 'S', 'T', 'S', 0, 0) || word == WORD('D', 'E', 'L', 'E', 'T', 'E', 'D', 0) ||
	       word == WORD('T', 'O', 'U', 'C', 'H', 'E', 'D', 0) || word == WORD('O', 'K', 0, 0, 0, 0, 0, 0) ||
	       word == WORD('S', 'T', 'A', 'T', 0, 0, 0, 0) || word == WORD('V', 'E', 'R', 'S', 'I', 'O', 'N', 0) ||
	       word == WORD('E', 'R', 'R', 'O', 'R', 0, 0, 0) || word == WORD('C', 'L', 'I', 'E', 'N', 'T', '_', 'E') ||
	       word == WORD('S', 'E', 'R', 'V', 'E', 'R', '_', 'E') ||
	       ((u8)(p[0] - 'A') <= 25 && (u8)(p[1] - 'A') <= 25 && word >> 16 == 0);
}

static __always_inline int mc_binary(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u8 code = p[1];
	u32 body, status;
	bool quiet;

	if (have < 24)
		return STEP_MORE;
	body = big32(p + 8);
	if (body > (1u << 30) || p[4] + ((u32)p[2] << 8 | p[3]) > body)
		return STEP_LOST;
	quiet = code == 0x09 || code == 0x0d || (code >= 0x11 && code <= 0x1a) || code == 0x1e || code == 0x24;
	s->pos += 24;
	w->skip = body;
	if (s->direction == REQUEST) {
		if (!(w->flags & MC_PART))
			w->t0 = s->stamp;
		w->flags = quiet ? MC_PART : 0;
		s->good++;
		if (!quiet)
			push(c, w->t0, KIND_PLAIN);
		return STEP_ON;
	}
	status = (u32)p[6] << 8 | p[7];
	/* not found, exists, not stored, and a further step of a login */
	if (status && status != 1 && status != 2 && status != 5 && status != 0x21)
		w->flags |= MC_BAD;
	/* statistics come one by one, the last without a key */
	if (quiet || (code == 0x10 && (p[2] | p[3])))
		return STEP_ON;
	w->status = w->flags & MC_BAD ? STATUS_FAILED : STATUS_OK;
	w->flags = 0;
	w->done = 1;
	return STEP_ON;
}

static __always_inline int mc_start(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u64 word;

	if (p[0] == (s->direction == REQUEST ? MC_REQUEST : MC_RESPONSE))
		return mc_binary(s, c, p, have);
	if (have < 12 && find_newline(s) < 0)
		return STEP_MORE;
	word = mc_word(p);
	if (unsure(c) && !(s->direction == REQUEST ? mc_request(p, have, true) : mc_fits(p)))
		return STEP_LOST;
	w->flags = 0;
	w->need = 0;
	w->word = 0;
	w->kind = 0;
	w->state = MC_LINE;
	if (s->direction == REQUEST) {
		if ((u8)(p[0] - 'a') > 25)
			return STEP_LOST;
		w->t0 = s->stamp;
		if (word == WORD('w', 'a', 't', 'c', 'h', 0, 0, 0))
			return STEP_OFF;
		if (word == WORD('q', 'u', 'i', 't', 0, 0, 0, 0) || word == WORD('s', 'h', 'u', 't', 'd', 'o', 'w', 'n'))
			w->flags = MC_QUIET;
		if (word == WORD('m', 'n', 0, 0, 0, 0, 0, 0) || word == WORD('g', 'e', 't', 0, 0, 0, 0, 0) ||
		    word == WORD('g', 'e', 't', 's', 0, 0, 0, 0))
			return STEP_ON;
		if (mc_meta(word))
			w->flags |= MC_META;
		w->kind = mc_value_word(word);
		w->state = MC_WORDS;
		return STEP_ON;
	}
	if ((u8)(p[0] - 'A') > 25 && (u8)(p[0] - '0') > 9)
		return STEP_LOST;
	w->status = STATUS_OK;
	if (word == WORD('V', 'A', 'L', 'U', 'E', 0, 0, 0)) {
		w->flags = MC_SILENT;
		w->kind = 3;
		w->state = MC_WORDS;
	} else if (word == WORD('V', 'A', 0, 0, 0, 0, 0, 0)) {
		w->kind = 1;
		w->state = MC_WORDS;
	} else if (word == WORD('S', 'T', 'A', 'T', 0, 0, 0, 0) || word == WORD('I', 'T', 'E', 'M', 0, 0, 0, 0)) {
		w->flags = MC_SILENT;
	} else if (word == WORD('E', 'R', 'R', 'O', 'R', 0, 0, 0) || word == WORD('C', 'L', 'I', 'E', 'N', 'T', '_', 'E') ||
		   word == WORD('S', 'E', 'R', 'V', 'E', 'R', '_', 'E')) {
		w->status = STATUS_FAILED;
	}
	return STEP_ON;
}

/* A line has ended: a value follows it, or the message is complete. */
static __always_inline int mc_end(struct scratch *s, struct conn *c)
{
	struct walk *w = &s->w;

	w->state = MC_START;
	if (w->kind)
		w->skip = (u64)w->need + 2;
	s->good++;
	if (s->direction == REQUEST) {
		if (!(w->flags & MC_QUIET))
			push(c, w->t0, KIND_PLAIN);
	} else if (!(w->flags & MC_SILENT)) {
		w->done = 1;
	}
	return STEP_ON;
}

/* One word of a line, or a part of a long one. */
static __always_inline int mc_words(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	int at = find_gap(s);
	u32 n = at >= 0 ? at : have < 64 ? have : 64, i;

	if (!(w->flags & MC_INSIDE)) {
		if (at < 0 && have < 8)
			return STEP_MORE;
		if (at == 7 && w->word && mc_word(p) == WORD('n', 'o', 'r', 'e', 'p', 'l', 'y', 0))
			w->flags |= MC_QUIET;
		if ((w->flags & MC_META) && w->word > 1 && p[0] == 'q')
			w->flags |= MC_QUIET;
	}
	if (w->kind && w->word == w->kind) {
		for (i = 0; i < 10; i++) {
			u8 digit = p[i] - '0';

			if (i >= n)
				break;
			if (digit > 9)
				return STEP_LOST;
			w->need = w->need * 10 + digit;
		}
		if (w->need > (1u << 30))
			return STEP_LOST;
	}
	s->pos += n;
	if (at < 0) {
		w->flags |= MC_INSIDE;
		return STEP_ON;
	}
	w->flags &= ~MC_INSIDE;
	s->pos++;
	if (s->buf[(s->pos - 1) & (BUFFER - 1)] == '\n')
		return mc_end(s, c);
	if (w->word < 255)
		w->word++;
	return STEP_ON;
}

/* One word, line or binary message; global, so that the verifier looks at it once. */
__noinline int mc_part(struct scratch *s, struct conn *c)
{
	const u8 *p;
	u32 have;

	if (!s || !c)
		return STEP_LOST;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	if (s->w.state == MC_START)
		return mc_start(s, c, p, have);
	if (s->w.state == MC_WORDS)
		return mc_words(s, c, p, have);
	return pass_line(s) ? mc_end(s, c) : STEP_ON;
}

/* Several parts at a call, while they are in the window. */
__noinline int mc_step(struct scratch *s, struct conn *c)
{
	u32 i;
	int verdict;

	if (!s || !c)
		return STEP_LOST;
	for (i = 0; i < 12; i++) {
		verdict = mc_part(s, c);
		if (verdict != STEP_ON)
			return verdict;
		if (used_up(s) || s->w.done)
			return STEP_ON;
	}
	return STEP_ON;
}

/* The whole of a reply has passed. */
static __always_inline void mc_complete(struct scratch *s, struct conn *c)
{
	s->w.done = 0;
	s->good++;
	/* an error that answers a command which wanted no answer answers nothing */
	if (waiting(c) > s->count)
		finish(s, c, s->w.status);
}

#endif
