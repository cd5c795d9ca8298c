/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * HTTP/2 and gRPC. Streams are told apart by their ids and kept beside the connection, see struct h2. An HTTP request
 * ends with the first byte of its final head, as in HTTP/1; a gRPC call with the end of its stream, since its outcome is
 * in the trailers.
 *
 * Header blocks are read where they pass by, and never copied. Of HPACK's dynamic tables we keep one byte per entry: what
 * the entry says of a status, as far as we care. Entries are named by their distance from the newest, and no encoder
 * names one that it has evicted, so neither sizes nor strings are needed, and Huffman codes are only compared. What was
 * inserted before we could see it is UNKNOWN: a status that depends on it is counted as unknown, never guessed.
 */
#ifndef COROOT_H2_H
#define COROOT_H2_H

enum {
	H2_SEEK = 0, /* out of step: waits for a chunk that begins with a frame */
	H2_FRAME = 1,
	H2_PREFACE = 2,
	H2_FIELD = 3, /* in a header block, at a field */
	H2_VALUE = 4, /* at the value of a field */
	H2_MORE = 8, /* the block goes on in a CONTINUATION, with the state that is or-ed to this */
};

enum { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST, H2_SETTINGS, H2_PUSH, H2_PING, H2_GOAWAY, H2_WINDOW, H2_CONTINUATION };

/* walk.flags within a block; the first two are as in the frame */
enum {
	H2_END_STREAM = 1,
	H2_INSERT = 2, /* the field at hand becomes an entry of the table */
	H2_END_HEADERS = 4,
	H2_UNKNOWN = 8, /* the block has a field that we cannot know */
	H2_TYPE_GRPC = 16,
	H2_TYPE_OTHER = 32,
	H2_NEW = 64, /* it begins a stream */
	H2_ASIDE = 128, /* of no stream of ours */
};

/* a verdict besides those of stream.h: a header block is complete */
#define STEP_BLOCK 5

/* What a field says: its name in the high bits, its value below. */
enum {
	FIELD_OTHER = 0,
	FIELD_UNKNOWN = 1,
	FIELD_PATH = 2,
	FIELD_STATUS = 0x10, /* with one of the classes below */
	FIELD_GRPC = 0x20, /* with the code, 31: unreadable */
	FIELD_TYPE = 0x40, /* with 1 for gRPC */
};
enum { HEAD_NONE = 0, HEAD_INTERIM = 1, HEAD_OK = 2, HEAD_REJECTED = 3, HEAD_FAILED = 4, HEAD_UNKNOWN = 5 };
#define GRPC_UNREADABLE 31

/* A stream's side: bytes left of the message at hand, and these. */
#define SIDE_LEFT 0xffffffu
#define SIDE_MESSAGE (1u << 24) /* a message has begun */
#define SIDE_MANY (1u << 25) /* a second one has */
#define SIDE_ENDED (1u << 26)
#define SIDE_GRPC (1u << 27)
#define SIDE_PLAIN (1u << 28) /* HTTP, surely */
#define SIDE_HEAD 29 /* HEAD_* from this bit on */

/* A call whose trailers come so much later than its head streams (in units of 2^20 ns). */
#define H2_STREAM_MS 1000
#define H2_LARGEST_GUESS 65536

/* Whether these nine bytes can be a frame's head. */
static __always_inline bool h2_plausible(const u8 *p)
{
	u32 length = (u32)p[0] << 16 | (u32)p[1] << 8 | p[2], id = big32(p + 5);

	if (id >> 31)
		return false;
	switch (p[3]) {
	case H2_DATA:
	case H2_HEADERS:
	case H2_PUSH:
	case H2_CONTINUATION:
		return id != 0;
	case H2_PRIORITY:
		return id && length == 5;
	case H2_RST:
		return id && length == 4;
	case H2_SETTINGS:
		return !id && length % 6 == 0;
	case H2_PING:
		return !id && length == 8;
	case H2_GOAWAY:
		return !id && length >= 8;
	case H2_WINDOW:
		return length == 4;
	default:
		return length <= 16384;
	}
}

/* Frames at the beginning of a chunk of `size` bytes, for connections whose preface was not seen. */
static __always_inline bool h2_frames(const u8 *p, u32 have, u32 size)
{
	u32 length = (u32)p[0] << 16 | (u32)p[1] << 8 | p[2];

	if (have < 9 || !h2_plausible(p) || p[3] > H2_CONTINUATION || length > H2_LARGEST_GUESS)
		return false;
	if (size <= length + 9)
		return size == length + 9 || p[3] == H2_DATA;
	if (length + 18 > 56 || have < length + 18)
		return true;
	p += length;
	return h2_plausible(p + 9) && p[12] <= H2_CONTINUATION;
}

/* In t0: the reply came first, and perhaps its end. */
#define H2_EARLY 1ULL
#define H2_DONE (1ULL << 63)

static __always_inline bool h2_is_early(u64 t0)
{
	return t0 == H2_EARLY || (t0 & H2_DONE);
}

/* Where the stream's slot is; -1: it has none. */
__noinline int h2_slot(struct h2 *h, u32 id)
{
	u32 i, at;

	if (!h || !id)
		return -1;
	for (i = 0; i < PROBES; i++) {
		at = ((id >> 1) + i) & (H2_STREAMS - 1);
		if (h->streams[at].id == id && h->streams[at].t0)
			return at;
	}
	return -1;
}

/* Takes a slot; ids begin in order, so that an early answer to a smaller one is to nothing that we shall see. */
static __always_inline struct h2_stream *h2_claim(struct h2 *h, u32 id)
{
	u32 i;

	for (i = 0; i < PROBES; i++) {
		struct h2_stream *st = &h->streams[((id >> 1) + i) & (H2_STREAMS - 1)];
		u64 was = st->t0;

		if (was && !(h2_is_early(was) && st->id < id))
			continue;
		if (__sync_val_compare_and_swap(&st->t0, was, H2_EARLY) != was)
			continue;
		st->id = id;
		st->head = 0;
		st->side[REQUEST] = st->side[RESPONSE] = 0;
		return st;
	}
	return NULL;
}

/* A reply whose request we have not seen: the call that sends it has not returned yet. */
__noinline int h2_early(struct h2 *h, u32 id)
{
	if (!h || !h2_claim(h, id))
		return -1;
	h->early = 1;
	return h2_slot(h, id);
}

/* `n` streams have ended with a row's protocol << 8 | status: the one with this id, or (0) any. */
__noinline int h2_count(struct conn *c, u32 id, u32 outcome, u64 ns, u32 n)
{
	if (!c)
		return 0;
	record(c->id, outcome >> 8, outcome & 255, ns, n);
	if (spans_on) {
		c->kept.proto = outcome >> 8;
		/* those without a slot are none whose head is kept */
		answered(c, id ? id : c->kept.number + 1, n, outcome & 255, ns);
	}
	return 0;
}

/* The frame that begins a request whose head is wanted: what of it is in the window, and of the rest what follows there. */
__noinline int h2_keep(struct scratch *s, struct conn *c, struct h2 *h)
{
	u32 pos, n, have, i, rest;
	struct head *k;
	const u8 *p;

	if (!s || !c || !h)
		return 0;
	k = &c->kept;
	pos = s->pos;
	p = s->buf + (pos & (BUFFER - 1));
	n = 9 + ((u32)p[0] << 16 | (u32)p[1] << 8 | p[2]);
	have = s->len - pos;
	/* where both ends see the frame begin */
	k->seq = s->seq ? s->seq + s->size - s->left - have : 0;
	k->inserted = h->inserted[REQUEST];
	if (n > HEAD - 1)
		n = HEAD - 1;
	if (have > n)
		have = n;
	for (i = 0; i < HEAD; i += 8) {
		if (i >= have)
			break;
		*(u64 *)(k->data + i) = *(u64 *)(s->buf + ((pos + i) & (BUFFER - 1)));
	}
	rest = n - have;
	if (rest > s->segment)
		rest = s->segment;
	/* one read of so much at most, behind as much */
	if (have > 255)
		rest = 0;
	k->length = have;
	asm volatile("%0 &= 0xff" : "+r"(have));
	asm volatile("%0 &= 0xff" : "+r"(rest));
	if (rest && bpf_probe_read_user(k->data + have, rest, (void *)s->base) == 0)
		k->length = have + rest;
	return 0;
}

__noinline int h2_open(struct conn *c, struct h2 *h, u32 id, u64 t0)
{
	struct h2_stream *st;
	int at = -1;

	if (!c || !h || (h->refused && id >= h->refused))
		return 0;
	h->opened++;
	if (h->early)
		at = h2_slot(h, id);
	if (at >= 0) {
		st = &h->streams[at & (H2_STREAMS - 1)];
		if (__sync_val_compare_and_swap(&st->t0, H2_EARLY, t0) != H2_EARLY) {
			/* even its end has been seen */
			u64 end = st->t0 & ~H2_DONE;
			u32 outcome = st->side[RESPONSE];

			st->t0 = 0;
			__sync_fetch_and_add(&h->ended, 1);
			if (outcome)
				h2_count(c, id, outcome, end > t0 ? end - t0 : 0, 1);
			else
				count(waits);
		}
		return 0;
	}
	st = h2_claim(h, id);
	if (st) {
		st->t0 = t0;
		want(c, id, t0, h->opened == h->ended + 1);
		return 0;
	}
	if (!h->extra)
		h->since = t0;
	__sync_fetch_and_add(&h->extra, 1);
	count(fifo_overflow);
	return 0;
}

/* The stream is done, with a row's protocol << 8 | status. Both directions may come here, one of them counts. */
__noinline int h2_end(struct conn *c, struct h2 *h, u32 at, u32 outcome, u64 end)
{
	struct h2_stream *st;
	u32 sides, head, id;
	bool streams;
	u64 t0;

	if (!c || !h)
		return 0;
	st = &h->streams[at & (H2_STREAMS - 1)];
	id = st->id;
	sides = st->side[REQUEST] | st->side[RESPONSE];
	head = st->head;
	streams = (sides & SIDE_MANY) || (head && (u32)(end >> 20) > head && (u32)(end >> 20) - head > H2_STREAM_MS);
	t0 = __sync_lock_test_and_set(&st->t0, 0);
	if (!t0)
		return 0;
	if (h2_is_early(t0)) {
		if (t0 == H2_EARLY)
			st->side[RESPONSE] = streams ? 0 : outcome;
		st->t0 = t0 == H2_EARLY ? end | H2_DONE : t0;
		return 0;
	}
	__sync_fetch_and_add(&h->ended, 1);
	if (outcome && !streams) {
		h2_count(c, id, outcome, end > t0 ? end - t0 : 0, 1);
		return 0;
	}
	if (outcome)
		count(waits);
	if (spans_on && c->kept.state == KEEP_HEAD && c->kept.number == id)
		c->kept.state = KEEP_NONE;
	return 0;
}

static __always_inline u32 h2_http(u32 head)
{
	return PROTO_HTTP << 8 | (head == HEAD_OK	? STATUS_OK :
				  head == HEAD_REJECTED ? STATUS_REJECTED :
				  head == HEAD_FAILED	? STATUS_FAILED :
							  STATUS_UNKNOWN);
}

/* Codes that are the server's doing: as OpenTelemetry has it for spans of servers. */
static __always_inline u32 h2_grpc(u32 code)
{
	return code == 0 ? STATUS_OK :
	       code > 16 ? STATUS_UNKNOWN :
	       (1u << code) & (1u << 2 | 1u << 4 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15) ? STATUS_FAILED :
												  STATUS_REJECTED;
}

/* Protocol of a stream that ended before it was told: as the last one of the connection whose was. */
static __always_inline u32 h2_proto(const struct h2 *h, u32 sides)
{
	return (sides & SIDE_GRPC) || (!(sides & SIDE_PLAIN) && h->grpc) ? PROTO_GRPC << 8 : PROTO_HTTP << 8;
}

/* Ends a stream in order: `code` is 1 + grpc-status, 0 where there is none. */
static __always_inline void h2_finish(struct scratch *s, struct conn *c, struct h2 *h, u32 at, u32 sides, u32 code, bool known)
{
	u32 head = sides >> SIDE_HEAD, outcome;

	if (code)
		outcome = PROTO_GRPC << 8 | h2_grpc(code - 1);
	else if (sides & SIDE_GRPC)
		/* a call without a status has failed, whatever it brought */
		outcome = PROTO_GRPC << 8 |
			  (head == HEAD_REJECTED ? STATUS_REJECTED : known || head == HEAD_FAILED ? STATUS_FAILED : STATUS_UNKNOWN);
	else
		outcome = known ? h2_http(head) : h2_proto(h, sides) | STATUS_UNKNOWN;
	h2_end(c, h, at, outcome, s->stamp);
}

struct h2_sweep {
	struct conn *c;
	struct h2 *h;
	u64 end;
	u32 status; /* none: not counted */
	u32 above; /* streams with greater ids only */
};

static long h2_sweep_one(u32 i, struct h2_sweep *x)
{
	struct h2_stream *st = &x->h->streams[i & (H2_STREAMS - 1)];

	if (st->t0 && st->id > x->above)
		h2_end(x->c, x->h, i, x->status == STATUSES ? 0 : h2_proto(x->h, st->side[0] | st->side[1]) | x->status, x->end);
	return 0;
}

/* Ends all streams above an id. STATUSES: without counting them. */
__noinline int h2_sweep(struct conn *c, struct h2 *h, u32 status, u32 above, u64 end)
{
	struct h2_sweep x = { .c = c, .h = h, .end = end, .status = status, .above = above };
	u32 extra;

	if (!c || !h)
		return 0;
	extra = h->extra;
	bpf_loop(H2_STREAMS, h2_sweep_one, &x, 0);
	if (!above && extra && status != STATUSES) {
		h2_count(c, 0, h2_proto(h, 0) | status, end > h->since ? end - h->since : 0, extra);
		__sync_fetch_and_sub(&h->extra, extra);
		__sync_fetch_and_add(&h->ended, extra);
	}
	return 0;
}

/* A header block of a reply is complete. */
__noinline int h2_answer(struct scratch *s, struct conn *c, struct h2 *h)
{
	struct h2_stream *st;
	struct walk *w;
	u32 sides, head;
	bool known;
	int at;

	if (!s || !c || !h)
		return STEP_LOST;
	w = &s->w;
	head = w->status;
	known = !(w->flags & H2_UNKNOWN);
	if (head == HEAD_INTERIM || (w->flags & H2_ASIDE))
		return STEP_ON;
	at = h2_slot(h, w->id);
	if (at < 0 && (w->id & 1) && w->id > h->last)
		at = h2_early(h, w->id);
	if (at < 0) {
		/* a stream without a slot: counted with its head, or with the trailers of a call */
		if (!h->extra || w->id > h->last || !(w->id & 1) || !(w->kind || (head && !(w->flags & H2_TYPE_GRPC))))
			return STEP_ON;
		h2_count(c, w->id, w->kind ? PROTO_GRPC << 8 | h2_grpc(w->kind - 1) : h2_http(head),
			 s->stamp > h->since ? s->stamp - h->since : 0, 1);
		__sync_fetch_and_sub(&h->extra, 1);
		__sync_fetch_and_add(&h->ended, 1);
		return STEP_ON;
	}
	st = &h->streams[at & (H2_STREAMS - 1)];
	sides = st->side[REQUEST] & (SIDE_GRPC | SIDE_PLAIN);
	if (w->kind || (w->flags & H2_TYPE_GRPC)) {
		sides = SIDE_GRPC;
		h->grpc = 1;
	}
	if (!st->head) {
		if (!head)
			head = HEAD_UNKNOWN;
		if (!(sides & SIDE_GRPC) && ((sides & SIDE_PLAIN) || (w->flags & H2_TYPE_OTHER) || known)) {
			h2_end(c, h, at, h2_http(head), s->stamp);
			return STEP_ON;
		}
		st->head = (u32)(s->stamp >> 20) | 1;
		st->side[RESPONSE] = (sides & SIDE_GRPC) | head << SIDE_HEAD;
	}
	if (w->flags & H2_END_STREAM)
		h2_finish(s, c, h, at, sides | st->side[RESPONSE], w->kind, known);
	return STEP_ON;
}

/* A header block of a request is complete. */
static __always_inline int h2_asked(struct scratch *s, struct h2 *h)
{
	struct walk *w = &s->w;
	struct h2_stream *st;
	u32 side;
	int at = h2_slot(h, w->id);

	if (at < 0)
		return STEP_ON;
	st = &h->streams[at & (H2_STREAMS - 1)];
	side = st->side[REQUEST];
	if (w->flags & H2_NEW) {
		if (w->flags & H2_TYPE_GRPC)
			side |= SIDE_GRPC;
		else if ((w->flags & H2_TYPE_OTHER) || !(w->flags & H2_UNKNOWN))
			side |= SIDE_PLAIN;
		if (side & (SIDE_GRPC | SIDE_PLAIN))
			h->grpc = (side & SIDE_GRPC) != 0;
	}
	if (w->flags & H2_END_STREAM)
		side |= SIDE_ENDED;
	st->side[REQUEST] = side;
	return STEP_ON;
}

/* The fragment of a block in this frame is used up. */
static __always_inline int h2_fragment_end(struct scratch *s)
{
	struct walk *w = &s->w;

	w->skip += w->word;
	w->word = 0;
	if (!(w->flags & H2_END_HEADERS)) {
		w->state |= H2_MORE;
		return STEP_ON;
	}
	/* a field must not be cut by the block's end */
	if (w->state != H2_FIELD || w->t0)
		return STEP_LOST;
	w->state = H2_FRAME;
	s->good++;
	return STEP_BLOCK;
}

static __always_inline u32 h2_static(u32 index)
{
	return index >= 8 && index <= 11 ? FIELD_STATUS | HEAD_OK :
	       index == 12 || index == 13 ? FIELD_STATUS | HEAD_REJECTED :
	       index == 14		  ? FIELD_STATUS | HEAD_FAILED :
	       index == 31		  ? FIELD_TYPE :
	       index == 4 || index == 5	  ? FIELD_PATH :
					    FIELD_OTHER;
}

/* What the entry with this index says. */
static __always_inline u32 h2_entry(struct h2 *h, u32 d, u32 index)
{
	u32 back = index - 62;

	if (index < 62)
		return h2_static(index);
	if (back >= h->inserted[d & 1] - h->base[d & 1] || back >= H2_TABLE)
		return FIELD_UNKNOWN;
	return h->table[d & 1][(h->inserted[d & 1] - 1 - back) & (H2_TABLE - 1)];
}

static __always_inline u32 h2_name(u32 field)
{
	return field >= FIELD_TYPE ? FIELD_TYPE : field >= FIELD_GRPC ? FIELD_GRPC : field >= FIELD_STATUS ? FIELD_STATUS : field;
}

static __always_inline void h2_note(struct walk *w, u32 field)
{
	if (field == FIELD_OTHER || field == FIELD_PATH)
		return;
	if (field == FIELD_UNKNOWN)
		w->flags |= H2_UNKNOWN;
	else if (field >= FIELD_TYPE)
		w->flags |= field & 1 ? H2_TYPE_GRPC : H2_TYPE_OTHER;
	else if (field >= FIELD_GRPC)
		w->kind = 1 + (field & 31);
	else
		w->status = field & 15;
}

/* What a field with this name says by its value; digits and constants are compared as they are coded. */
static __always_inline u32 h2_value(u32 name, const u8 *v, u32 n, bool huffman)
{
	u32 code, x;

	if (name == FIELD_TYPE) {
		if (huffman)
			return n >= 11 && *(const u64 *)v == 0x4c3d260d62d0751dULL && v[8] == 0x4d && v[9] == 0x65 && v[10] == 0x64 &&
					       !(n > 11 && v[11] >> 2 == 0x16) ?
				       FIELD_TYPE | 1 :
				       FIELD_TYPE;
		return n >= 16 && *(const u64 *)v == WORD('a', 'p', 'p', 'l', 'i', 'c', 'a', 't') &&
				       *(const u64 *)(v + 8) == WORD('i', 'o', 'n', '/', 'g', 'r', 'p', 'c') &&
				       !(n > 16 && v[16] == '-') ?
			       FIELD_TYPE | 1 :
			       FIELD_TYPE;
	}
	if (name == FIELD_STATUS) {
		x = huffman ? (v[0] >> 3 <= 2 ? v[0] >> 3 : (u32)(v[0] >> 2) - 22) : (u32)v[0] - '0';
		if (n < 2 || n > 3)
			x = 0;
		return FIELD_STATUS | (x == 1 ? HEAD_INTERIM :
				       x == 2 || x == 3 ? HEAD_OK :
				       x == 4 ? HEAD_REJECTED :
				       x == 5 ? HEAD_FAILED : HEAD_UNKNOWN);
	}
	if (name != FIELD_GRPC)
		return name;
	code = GRPC_UNREADABLE;
	if (!huffman) {
		x = v[0] - '0';
		if (n == 1 && x <= 9)
			code = x;
		else if (n == 2 && x == 1 && (u32)v[1] - '0' <= 6)
			code = 10 + v[1] - '0';
	} else if (n == 1) {
		x = v[0] >> 3 <= 2 ? v[0] >> 3 : (u32)(v[0] >> 2) - 22;
		if (x <= 9)
			code = x;
	} else if (n == 2 && v[0] >> 3 == 1) {
		u32 word = (u32)v[0] << 8 | v[1];

		x = (word >> 6 & 31) <= 2 ? (word >> 6 & 31) : (word >> 5 & 63) - 22;
		if (x <= 6)
			code = 10 + x;
	}
	return FIELD_GRPC | code;
}

/* A number of HPACK whose prefix has these bits; *value is set. Returns its bytes, 0 where it is too large for us. */
static __always_inline u32 h2_number(const u8 *p, u32 prefix, u32 *value)
{
	u32 v = p[0] & prefix;

	*value = v;
	if (v < prefix)
		return 1;
	*value = v += p[1] & 127;
	if (p[1] < 128)
		return 2;
	*value = v += (u32)(p[2] & 127) << 7;
	if (p[2] < 128)
		return 3;
	*value = v + ((u32)(p[3] & 127) << 14);
	return p[3] < 128 ? 4 : 0;
}

/* Passes by a string of n bytes; what goes beyond the fragment is passed by in the next one (low half of w.t0). */
static __always_inline void h2_string(struct walk *w, u32 n)
{
	u32 here = n < w->need ? n : w->need;

	w->need -= here;
	w->skip = here;
	w->t0 = n - here;
}

/*
 * The block's fragment ends within a token: what is there of it moves over the head of the CONTINUATION behind it, so
 * that the token is whole. Such tokens are at most 22 bytes long.
 */
__noinline int h2_join(struct scratch *s)
{
	u64 token[3], after[3];
	u32 rest, length;
	struct walk *w;
	u8 *p;

	if (!s)
		return STEP_LOST;
	w = &s->w;
	rest = w->need;
	if (rest > 22 || w->word || (w->flags & H2_END_HEADERS))
		return STEP_LOST;
	if (s->len - s->pos < rest + 9)
		return STEP_MORE;
	p = s->buf + (s->pos & (BUFFER - 1));
	asm volatile("%0 &= 0x1f" : "+r"(rest));
	length = (u32)p[rest] << 16 | (u32)p[rest + 1] << 8 | p[rest + 2];
	if (p[rest + 3] != H2_CONTINUATION || big32(p + rest + 5) != w->id)
		return STEP_LOST;
	w->flags |= p[rest + 4] & H2_END_HEADERS;
	token[0] = *(u64 *)p, token[1] = *(u64 *)(p + 8), token[2] = *(u64 *)(p + 16);
	after[0] = *(u64 *)(p + rest + 9), after[1] = *(u64 *)(p + rest + 17), after[2] = *(u64 *)(p + rest + 25);
	*(u64 *)(p + 9) = token[0], *(u64 *)(p + 17) = token[1], *(u64 *)(p + 25) = token[2];
	*(u64 *)(p + rest + 9) = after[0], *(u64 *)(p + rest + 17) = after[1], *(u64 *)(p + rest + 25) = after[2];
	s->pos += 9;
	w->need = rest + length;
	return STEP_ON;
}

/* One field of a header block, or its value alone. */
__noinline int h2_field(struct scratch *s, struct h2 *h)
{
	u32 have, d, index, used, n, name, field, peek, i;
	struct walk *w;
	bool huffman;
	u8 *p;

	if (!s || !h)
		return STEP_LOST;
	w = &s->w;
	d = s->direction & 1;
	/* most fields are one byte: as many of them as there are; what is carried goes through memory, see README */
	for (i = 0; i < 6 && w->state == H2_FIELD; i++) {
		u32 pos = s->pos;
		u8 byte = s->buf[pos & (BUFFER - 1)];

		if (s->len == pos || byte <= 0x80 || byte == 0xff)
			break;
		h2_note(w, h2_entry(h, d, byte & 127));
		s->pos = pos + 1;
		if (!--w->need)
			return h2_fragment_end(s);
	}
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	if (have > w->need)
		have = w->need;
	if (!have)
		return i ? STEP_ON : STEP_MORE;
	if (w->state == H2_VALUE) {
		name = w->t0 >> 32;
		goto value;
	}
	if (p[0] & 0x80) {
		used = h2_number(p, 127, &index);
		if (used > have || (!used && have < 4))
			goto cut;
		if (!used || !index)
			return STEP_LOST;
		h2_note(w, h2_entry(h, d, index));
		s->pos += used;
		w->need -= used;
		return w->need ? STEP_ON : h2_fragment_end(s);
	}
	if ((p[0] & 0xe0) == 0x20) {
		/* the table's new size: what it evicts will not be named any more */
		used = h2_number(p, 31, &index);
		if (used > have || (!used && have < 4))
			goto cut;
		if (!used)
			return STEP_LOST;
		s->pos += used;
		w->need -= used;
		return w->need ? STEP_ON : h2_fragment_end(s);
	}
	used = h2_number(p, (p[0] & 0xc0) == 0x40 ? 63 : 15, &index);
	if (used > have || (!used && have < 4))
		goto cut;
	if (!used)
		return STEP_LOST;
	name = h2_name(h2_entry(h, d, index));
	if (!index) {
		if (have < 2)
			goto cut;
		huffman = p[1] & 0x80;
		used = 1 + h2_number(p + 1, 127, &n);
		if (used == 1) {
			if (have < 5)
				goto cut;
			return STEP_LOST;
		}
		peek = n >= 5 && n <= 12 ? n : 0;
		if (used + peek > have)
			goto cut;
		if (used < 5) {
			const u8 *v = p + used;
			u64 word = *(const u64 *)v;

			name = FIELD_OTHER;
			if (huffman ? n == 8 && word == 0x8fda3412b2c8ca9aULL :
				      n == 11 && word == WORD('g', 'r', 'p', 'c', '-', 's', 't', 'a') && v[8] == 't' &&
					      v[9] == 'u' && v[10] == 's')
				name = FIELD_GRPC;
			else if (huffman ? n == 9 && word == 0x59f5c94a6a49ea21ULL && v[8] == 0x7f :
					   n == 12 && word == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') && v[8] == 't' &&
						   v[9] == 'y' && v[10] == 'p' && v[11] == 'e')
				name = FIELD_TYPE;
			else if (huffman ? n == 5 && (u32)word == 0x368d84b8 && v[4] == 0xa3 :
					   n == 7 && word << 8 == WORD(0, ':', 's', 't', 'a', 't', 'u', 's'))
				name = FIELD_STATUS;
		}
	} else {
		n = 0;
	}
	if ((p[0] & 0xc0) == 0x40)
		w->flags |= H2_INSERT;
	else
		w->flags &= ~H2_INSERT;
	s->pos += used;
	w->need -= used;
	w->state = H2_VALUE;
	h2_string(w, n);
	w->t0 |= (u64)name << 32;
	if (!w->need)
		return h2_fragment_end(s);
	/* the value, where it follows at once */
	if (n || have == used)
		return STEP_ON;
	have -= used;
	p = s->buf + (s->pos & (BUFFER - 1));
value:
	huffman = p[0] & 0x80;
	used = h2_number(p, 127, &n);
	if (!used && have < 4)
		goto cut;
	if (!used)
		return STEP_LOST;
	peek = name < FIELD_STATUS ? 0 : name == FIELD_TYPE ? (n < 17 ? n : 17) : n < 3 ? n : 3;
	if (used + peek > have)
		goto cut;
	field = used < 5 ? h2_value(name, p + used, n, huffman) : FIELD_UNKNOWN;
	if (w->flags & H2_INSERT) {
		i = h->inserted[d];
		h->table[d][i & (H2_TABLE - 1)] = field;
		h->inserted[d] = i + 1;
		if (name == FIELD_PATH && d == REQUEST)
			h->paths = 1;
	}
	h2_note(w, field);
	s->pos += used;
	w->need -= used;
	w->state = H2_FIELD;
	h2_string(w, n);
	return w->need ? STEP_ON : h2_fragment_end(s);
cut:
	return have < w->need ? STEP_MORE : h2_join(s);
}

/* DATA of a stream that is not settled: its messages are told apart, since calls with several of them wait by design. */
static __always_inline int h2_data(struct scratch *s, struct conn *c, struct h2 *h, const u8 *p, u32 have, u32 flags, u32 id,
				   u32 at_body, u32 body)
{
	u32 d = s->direction & 1, side, left;
	struct h2_stream *st;
	int at = h2_slot(h, id);

	if (at < 0)
		return STEP_ON;
	st = &h->streams[at & (H2_STREAMS - 1)];
	side = st->side[d];
	if (body && !(st->side[REQUEST] & SIDE_PLAIN)) {
		left = side & SIDE_LEFT;
		if (!left) {
			side |= side & SIDE_MESSAGE ? SIDE_MANY : SIDE_MESSAGE;
			left = SIDE_LEFT;
			if (body >= 5) {
				u32 length;

				if (have < at_body + 5)
					return STEP_MORE;
				length = big32(p + (at_body & 15) + 1);
				if (length < SIDE_LEFT - 5)
					left = length + 5;
				/* what the heads did not tell */
				if (left == body && p[at_body & 15] <= 1)
					h->grpc = 1;
			}
		}
		if (body > left) {
			side |= SIDE_MANY;
			left = 0;
		} else if (left != SIDE_LEFT) {
			left -= body;
		}
		side = (side & ~SIDE_LEFT) | left;
	}
	if (flags & H2_END_STREAM)
		side |= SIDE_ENDED;
	st->side[d] = side;
	if ((flags & H2_END_STREAM) && d == RESPONSE)
		h2_finish(s, c, h, at, (st->side[REQUEST] & (SIDE_GRPC | SIDE_PLAIN)) | side, 0, true);
	return STEP_ON;
}

/* The head of a frame, and what is to be seen of its body. */
__noinline int h2_frame(struct scratch *s, struct conn *c, struct h2 *h)
{
	u32 have, length, type, flags, id, used = 9, pad = 0;
	struct walk *w;
	int at;
	u8 *p;

	if (!s || !c || !h)
		return STEP_LOST;
	w = &s->w;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	if (w->state == H2_PREFACE) {
		if (have < 24)
			return STEP_MORE;
		if (*(u64 *)p != WORD('P', 'R', 'I', ' ', '*', ' ', 'H', 'T') || *(u64 *)(p + 16) != WORD('\r', '\n', 'S', 'M', '\r', '\n', '\r', '\n'))
			return STEP_LOST;
		s->pos += 24;
		w->state = H2_FRAME;
		return STEP_ON;
	}
	if (have < 9)
		return STEP_MORE;
	length = (u32)p[0] << 16 | (u32)p[1] << 8 | p[2];
	type = p[3];
	flags = p[4];
	id = big32(p + 5);
	if (!h2_plausible(p))
		return STEP_LOST;
	if (w->state & H2_MORE) {
		u32 over = w->t0, here = over < length ? over : length;

		if (type != H2_CONTINUATION || id != w->id)
			return STEP_LOST;
		s->pos += 9;
		w->state &= ~H2_MORE;
		w->flags |= flags & H2_END_HEADERS;
		w->need = length - here;
		w->skip = here;
		w->t0 = (w->t0 >> 32 << 32) | (over - here);
		return w->need ? STEP_ON : h2_fragment_end(s);
	}
	if (type == H2_CONTINUATION)
		return STEP_LOST;
	if ((flags & 8) && (type == H2_DATA || type == H2_HEADERS || type == H2_PUSH)) {
		if (have < 10)
			return STEP_MORE;
		pad = p[9];
		used = 10;
	}
	if (type == H2_HEADERS && (flags & 0x20))
		used += 5;
	if (type == H2_PUSH)
		used += 4;
	if (used - 9 + pad > length)
		return STEP_LOST;
	if (type == H2_HEADERS || type == H2_PUSH) {
		/* a carried token must not be longer than the block */
		if (have < used)
			return STEP_MORE;
		w->status = 0;
		w->kind = 0;
		w->t0 = 0;
		w->word = pad;
		w->id = id;
		w->flags = flags & (H2_END_STREAM | H2_END_HEADERS);
		w->need = length + 9 - used - pad;
		w->state = H2_FIELD;
		if (type == H2_PUSH)
			w->flags = (flags & H2_END_HEADERS) | H2_ASIDE;
		if (s->direction == REQUEST && type == H2_HEADERS && (id & 1) && id > h->last) {
			h->last = id;
			w->flags |= H2_NEW;
			h2_open(c, h, id, s->stamp);
			/* the request whose head is kept stands for those from it on */
			c->pushed++;
			c->popped++;
			if (spans_on && c->kept.state == KEEP_WANTED && c->kept.number == id)
				h2_keep(s, c, h);
		}
		s->pos += used;
		return w->need ? STEP_ON : h2_fragment_end(s);
	}
	if (type == H2_DATA) {
		int verdict = h2_data(s, c, h, p, have, flags, id, used, length + 9 - used - pad);

		if (verdict != STEP_ON)
			return verdict;
	} else if (type == H2_RST) {
		at = h2_slot(h, id);
		if (at >= 0) {
			struct h2_stream *st = &h->streams[at & (H2_STREAMS - 1)];

			h2_end(c, h, at,
			       h2_proto(h, st->side[REQUEST] | st->side[RESPONSE]) |
				       (s->direction == REQUEST ? STATUS_UNANSWERED : STATUS_FAILED),
			       s->stamp);
		}
	} else if (type == H2_GOAWAY && s->direction == RESPONSE) {
		if (have < 13)
			return STEP_MORE;
		/* streams behind the last one that it names were not looked at; clients ask again elsewhere */
		id = big32(p + 9) & 0x7fffffff;
		if (id != 0x7fffffff) {
			h->refused = id + 1;
			h->drop = 1;
		}
	}
	s->pos += 9;
	w->skip = length;
	s->good++;
	return STEP_ON;
}

/* Several frames and fields at a call, while they are in the window. */
__noinline int h2_step(struct scratch *s, struct conn *c, struct h2 *h)
{
	u32 i;
	int verdict;

	if (!s || !c || !h)
		return STEP_LOST;
	for (i = 0; i < 8; i++) {
		if (s->w.state == H2_FIELD || s->w.state == H2_VALUE)
			verdict = h2_field(s, h);
		else
			verdict = h2_frame(s, c, h);
		if (verdict == STEP_BLOCK)
			verdict = s->direction == REQUEST ? h2_asked(s, h) : h2_answer(s, c, h);
		if (verdict != STEP_ON)
			return verdict;
		if (used_up(s))
			return STEP_ON;
	}
	return STEP_ON;
}

struct h2_walking {
	struct scratch *s;
	struct conn *c;
	struct h2 *h;
	u32 verdict;
};

static long h2_turn(u32 i, struct h2_walking *x)
{
	struct scratch *s = x->s;

	if (s->w.skip) {
		if (pass(s)) {
			x->verdict = STEP_LOST;
			return 1;
		}
		if (s->w.skip)
			return s->left == 0;
	}
	if (s->left && s->len - s->pos < LOOKAHEAD) {
		if (refill(s)) {
			x->verdict = STEP_LOST;
			return 1;
		}
		return 0;
	}
	if (s->len == s->pos) {
		x->verdict = STEP_REST;
		return 1;
	}
	x->verdict = h2_step(s, x->c, x->h);
	return x->verdict != STEP_ON;
}

/* Walks one chunk. 0: out of step. */
static __always_inline int h2_walk(struct scratch *s, struct conn *c, struct h2 *h)
{
	struct h2_walking x = { .s = s, .c = c, .h = h, .verdict = STEP_ON };
	u32 rest;

	s->pos = 0;
	s->len = s->w.carried & (LOOKAHEAD - 1);
	if (s->len) {
		__builtin_memcpy(s->buf, s->w.carry, LOOKAHEAD);
		s->w.carried = 0;
	}
	bpf_loop(MAX_STEPS, h2_turn, &x, 0);
	rest = s->len - s->pos;
	if (x.verdict == STEP_MORE) {
		if (rest >= LOOKAHEAD || s->left)
			return 0;
		__builtin_memcpy(s->w.carry, s->buf + (s->pos & (BUFFER - 1)), LOOKAHEAD);
		s->w.carried = rest;
	} else if (x.verdict == STEP_ON && s->left) {
		count(step_limit);
		return 0;
	}
	return x.verdict != STEP_LOST;
}

#endif
