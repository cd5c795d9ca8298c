/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * NATS, line by line. A message that is published or delivered counts, without a latency, as one. A publish whose reply
 * subject is an inbox of the same connection is a request: it ends with the first message to that subject, and the two
 * count as one, told apart by the subject's hash. A reply with a status of 500 or more (no responders) is a failure, and
 * so is each -ERR; a violation of permissions or a refused login is rejected. Inboxes are known from SUB _INBOX..., or,
 * where that was missed, from the first message to one; a publish that names somebody else's inbox is a message, and so
 * is a pull from a JetStream consumer, which waits by design.
 */
#ifndef COROOT_NATS_H
#define COROOT_NATS_H

enum { NATS_START = 0, NATS_WORDS = 1, NATS_LINE = 2, NATS_HEAD = 3 };
enum { NATS_PUB = 1, NATS_SUB = 2, NATS_MSG = 3, NATS_HMSG = 4 }; /* of the line at hand */
enum { NATS_INSIDE = 1, NATS_INBOX = 2, NATS_NAMED = 4, NATS_PULL = 8, NATS_ODD = 16 };
#define NATS_HASH 2166136261u
/* the most that a server takes is 64 MiB */
#define NATS_PAYLOAD (1u << 27)

enum { VERB_NONE = 0, VERB_LINE = 1, VERB_WORDS = 2 };

/* What a line's first word makes of the line; *kind is what is counted of it. */
static __always_inline u32 nats_verb(const u8 *p, u32 direction, u8 *kind)
{
	u64 word = mc_word(p);

	*kind = 0;
	if ((u8)word >= 'A')
		word &= ~0x2020202020202020ULL;
	if (word == WORD('P', 'I', 'N', 'G', 0, 0, 0, 0) || word == WORD('P', 'O', 'N', 'G', 0, 0, 0, 0))
		return VERB_LINE;
	if (direction == REQUEST) {
		if (word == WORD('P', 'U', 'B', 0, 0, 0, 0, 0) || word == WORD('H', 'P', 'U', 'B', 0, 0, 0, 0))
			*kind = NATS_PUB;
		else if (word == WORD('S', 'U', 'B', 0, 0, 0, 0, 0))
			*kind = NATS_SUB;
		else
			return word == WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', 0) ||
			       word == WORD('U', 'N', 'S', 'U', 'B', 0, 0, 0);
		return VERB_WORDS;
	}
	if (word == WORD('M', 'S', 'G', 0, 0, 0, 0, 0))
		*kind = NATS_MSG;
	else if (word == WORD('H', 'M', 'S', 'G', 0, 0, 0, 0))
		*kind = NATS_HMSG;
	else
		return word == WORD('I', 'N', 'F', 'O', 0, 0, 0, 0) || word == WORD('+', 'O', 'K', 0, 0, 0, 0, 0) ||
		       word == WORD('-', 'E', 'R', 'R', 0, 0, 0, 0);
	return VERB_WORDS;
}

static __always_inline int nats_start(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 verb;

	if (have < 16 && find_newline(s) < 0)
		return STEP_MORE;
	verb = nats_verb(p, s->direction, &w->kind);
	if (verb == VERB_NONE)
		return STEP_LOST;
	w->flags = 0;
	w->word = 0;
	w->need = 0;
	w->state = verb == VERB_WORDS ? NATS_WORDS : NATS_LINE;
	s->good++;
	if (p[0] == '-') {
		u64 why = *(const u64 *)(p + 6);

		finish(s, c, why == WORD('P', 'e', 'r', 'm', 'i', 's', 's', 'i') || why == WORD('A', 'u', 't', 'h', 'o', 'r', 'i', 'z') ||
				     why == WORD('A', 'u', 't', 'h', 'e', 'n', 't', 'i') ||
				     why == WORD('U', 's', 'e', 'r', ' ', 'A', 'u', 't') ? STATUS_REJECTED : STATUS_FAILED);
	}
	return STEP_ON;
}

/* Goes on with the hash of a subject: the whole of it in `id`, what is before its last dot in `t0`. */
__noinline int nats_hash(struct scratch *s, u32 n)
{
	u32 i, hash, before, pos;

	if (!s)
		return 0;
	hash = s->w.id;
	before = s->w.t0;
	pos = s->pos;
	for (i = 0; i < 64; i++) {
		u8 ch;

		if (i >= n)
			break;
		ch = s->buf[(pos + i) & (BUFFER - 1)];
		if (ch == '.')
			before = hash;
		hash = (hash ^ ch) * 16777619u;
	}
	s->w.id = hash;
	s->w.t0 = before;
	return 0;
}

/* A word as a number: the last one of a line says how long the payload is. */
__noinline int nats_number(struct scratch *s, u32 n)
{
	u32 i, pos;

	if (!s)
		return 0;
	pos = s->pos;
	s->w.need = 0;
	s->w.flags &= ~NATS_ODD;
	if (n > 10)
		s->w.flags |= NATS_ODD;
	/* in memory, where the verifier does not follow them */
	for (i = 0; i < 10 && i < n; i++) {
		u8 digit = s->buf[(pos + i) & (BUFFER - 1)] - '0';

		s->w.need = s->w.need * 10 + digit;
		s->w.flags |= digit > 9 ? NATS_ODD : 0;
	}
	return 0;
}

/* A line with words has ended: counts what it says, and passes its payload by. */
static __always_inline int nats_end(struct scratch *s, struct conn *c)
{
	struct walk *w = &s->w;
	u32 before = w->t0;
	bool named = w->flags & NATS_NAMED;

	w->state = NATS_START;
	if (w->kind == NATS_SUB) {
		if (named)
			c->inbox = w->flags & NATS_ODD ? before : w->id;
		return STEP_ON;
	}
	if ((w->flags & NATS_ODD) || w->need > NATS_PAYLOAD)
		return STEP_LOST;
	w->skip = (u64)w->need + 2;
	if (named && c->inbox != before && c->inbox != w->id) {
		if (w->kind != NATS_PUB && !c->inbox && before != NATS_HASH)
			c->inbox = before;
		named = false;
	}
	if (w->kind == NATS_PUB) {
		if (named && !(w->flags & NATS_PULL)) {
			open_slot(c, w->id, s->stamp, KIND_PLAIN);
			return STEP_ON;
		}
	} else if (named && slot_kind(c, w->id) >= 0) {
		if (w->kind == NATS_HMSG && w->need >= 12) {
			w->state = NATS_HEAD;
			w->need += 2;
			w->skip = 0;
		} else {
			settle_slot(c, w->id, STATUS_OK, s->stamp);
		}
		return STEP_ON;
	}
	finish(s, c, STATUS_OK);
	return STEP_ON;
}

/* One word of a line, or a part of a long one. */
static __always_inline int nats_words(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	int at = find_gap(s);
	u32 n = at >= 0 ? at : have < 64 ? have : 64;

	if (n && !(w->flags & NATS_INSIDE)) {
		/* numbers and the beginnings that matter are never cut */
		if (at < 0 && have < LOOKAHEAD - 1)
			return STEP_MORE;
		w->flags &= ~NATS_INBOX;
		if (w->word == (w->kind == NATS_PUB ? 2 : 1) && n > 7 &&
		    (*(const u64 *)p & 0xffffffffffffffULL) == WORD('_', 'I', 'N', 'B', 'O', 'X', '.', 0)) {
			w->flags |= NATS_INBOX | NATS_NAMED;
			w->id = NATS_HASH;
			w->t0 = NATS_HASH;
		}
		if (w->word == 1 && n > 25 && *(const u64 *)p == WORD('$', 'J', 'S', '.', 'A', 'P', 'I', '.') &&
		    *(const u64 *)(p + 17) == WORD('M', 'S', 'G', '.', 'N', 'E', 'X', 'T'))
			w->flags |= NATS_PULL;
		nats_number(s, n);
	}
	if (w->flags & NATS_INBOX)
		nats_hash(s, n);
	s->pos += n;
	if (at < 0) {
		w->flags |= NATS_INSIDE;
		return STEP_ON;
	}
	if (n) {
		/* of a subscription ODD says that its subject ends in a wildcard */
		if (w->kind == NATS_SUB && w->word == 1) {
			u8 last = s->buf[(s->pos - 1) & (BUFFER - 1)];

			w->status = last == '*' || last == '>';
		}
		w->word++;
	}
	w->flags &= ~(NATS_INSIDE | NATS_INBOX);
	s->pos++;
	if (s->buf[(s->pos - 1) & (BUFFER - 1)] != '\n')
		return STEP_ON;
	if (w->kind == NATS_SUB)
		w->flags = (w->flags & ~NATS_ODD) | (w->status ? NATS_ODD : 0);
	return nats_end(s, c);
}

/* The head of a reply that has headers: a status where it is an error of the system. */
static __always_inline int nats_head(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;

	if (have < 12)
		return STEP_MORE;
	settle_slot(c, w->id, *(const u64 *)p == WORD('N', 'A', 'T', 'S', '/', '1', '.', '0') && p[8] == ' ' && p[9] == '5' ?
			      STATUS_FAILED : STATUS_OK, s->stamp);
	w->state = NATS_START;
	w->skip = w->need;
	return STEP_ON;
}

/* One word, line or head; global, so that the verifier looks at it once. */
__noinline int nats_part(struct scratch *s, struct conn *c)
{
	const u8 *p;
	u32 have;

	if (!s || !c)
		return STEP_LOST;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	if (s->w.state == NATS_START)
		return nats_start(s, c, p, have);
	if (s->w.state == NATS_WORDS)
		return nats_words(s, c, p, have);
	if (s->w.state == NATS_HEAD)
		return nats_head(s, c, p, have);
	if (pass_line(s))
		s->w.state = NATS_START;
	return STEP_ON;
}

/* The greeting of a server, which speaks first. */
static __always_inline bool nats_greeting(const u8 *p, u32 have)
{
	return have >= 16 && *(const u64 *)p == WORD('I', 'N', 'F', 'O', ' ', '{', '"', 's') &&
	       *(const u64 *)(p + 8) == WORD('e', 'r', 'v', 'e', 'r', '_', 'i', 'd');
}

/* A connection met later: a line with words, or a ping or pong by itself, which may be all for minutes. */
static __always_inline bool nats_met(const u8 *p, u32 have, u32 direction)
{
	u32 verb;
	u8 kind;

	if (have < 6)
		return false;
	verb = nats_verb(p, direction, &kind);
	return verb == VERB_WORDS || (verb == VERB_LINE && have == 6 && p[0] == 'P');
}

static __always_inline bool nats_fits(const u8 *p, u32 have)
{
	u8 kind;

	return have < 8 || nats_verb(p, RESPONSE, &kind) != VERB_NONE;
}

#endif
