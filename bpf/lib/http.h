/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * HTTP/1. A request starts with its first byte and ends with the first byte of its final reply (interim 1xx replies are
 * passed by). Two gears. Usual connections have one request at a time: a head is looked at where a chunk begins, and
 * bodies are never read. A connection that pipelines, or sends an interim reply, is walked with care: heads line by
 * line for Content-Length and Transfer-Encoding, to find where the next message begins. 101 and CONNECT end the walk.
 */
#ifndef COROOT_HTTP_H
#define COROOT_HTTP_H

enum {
	HTTP_START = 0, /* a message begins here */
	HTTP_LINE = 1, /* in a line that says nothing */
	HTTP_FIELD = 2, /* at the beginning of a header line */
	HTTP_CHUNK = 3, /* at a chunk's size */
	HTTP_CHUNK_LINE = 4, /* in a chunk's size line */
	HTTP_CHUNK_END = 5, /* at the line end after a chunk's data */
	HTTP_TRAILER = 6,
	HTTP_TRAILER_LINE = 7,
	HTTP_BODY = 8, /* somewhere in a body: a message begins where a chunk begins with one */
};
enum { HTTP_CHUNKED = 1, HTTP_LENGTH = 2, HTTP_INTERIM = 4, HTTP_BODILESS = 8, HTTP_LAST = 16 };

/* Length of the method with its space, 0 for none; *kind as in conn.h. */
static __always_inline u32 http_method(const u8 *p, u32 have, u32 *kind)
{
	u64 w = *(const u64 *)p;

	*kind = KIND_PLAIN;
	if (have < 8)
		return 0;
	if ((u32)w == 0x20544547) /* GET */
		return 4;
	if ((u32)w == 0x20545550) /* PUT */
		return 4;
	if ((w & 0xffffffffffULL) == WORD('P', 'O', 'S', 'T', ' ', 0, 0, 0))
		return 5;
	if ((w & 0xffffffffffULL) == WORD('H', 'E', 'A', 'D', ' ', 0, 0, 0)) {
		*kind = KIND_HEAD;
		return 5;
	}
	if ((w & 0xffffffffffffULL) == WORD('P', 'A', 'T', 'C', 'H', ' ', 0, 0))
		return 6;
	if ((w & 0xffffffffffffULL) == WORD('T', 'R', 'A', 'C', 'E', ' ', 0, 0))
		return 6;
	if ((w & 0xffffffffffffffULL) == WORD('D', 'E', 'L', 'E', 'T', 'E', ' ', 0))
		return 7;
	if (w == WORD('O', 'P', 'T', 'I', 'O', 'N', 'S', ' '))
		return 8;
	if (w == WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ')) {
		*kind = KIND_CONNECT;
		return 8;
	}
	return 0;
}

/* Status code of "HTTP/1.x nnn", 0 for none. */
static __always_inline u32 http_code(const u8 *p, u32 have)
{
	u32 a = p[9] - '0', b = p[10] - '0', d = p[11] - '0';

	if (have < 12 || *(const u32 *)p != 0x50545448 || p[4] != '/' || p[5] != '1' || p[6] != '.' || p[8] != ' ')
		return 0;
	if (a < 1 || a > 9 || b > 9 || d > 9)
		return 0;
	return a * 100 + b * 10 + d;
}

static __always_inline u32 http_status(u32 code)
{
	return code >= 500 ? STATUS_FAILED : code >= 400 ? STATUS_REJECTED : STATUS_OK;
}

static __always_inline int http_body(struct scratch *s, struct conn *c)
{
	struct walk *w = &s->w;

	s->good++;
	if (w->flags & HTTP_INTERIM) {
		w->state = HTTP_START;
	} else if (w->flags & HTTP_BODILESS) {
		w->state = HTTP_START;
	} else if (w->flags & HTTP_CHUNKED) {
		w->state = HTTP_CHUNK;
	} else if (w->flags & HTTP_LENGTH) {
		w->skip = w->t0;
		w->state = HTTP_START;
	} else {
		/* a request without length has no body; a reply without one lasts until the connection closes */
		w->state = s->direction == REQUEST ? HTTP_START : HTTP_BODY;
	}
	return STEP_ON;
}

static __always_inline int http_start(struct scratch *s, struct conn *c, u8 *p, u32 have)
{
	struct walk *w = &s->w;

	/* blank lines between messages */
	if (p[0] == '\r' || p[0] == '\n') {
		s->pos++;
		return STEP_ON;
	}
	if (have < 12)
		return STEP_MORE;
	w->flags = 0;
	w->t0 = 0;
	if (s->direction == REQUEST) {
		u32 kind;

		if (!http_method(p, have, &kind)) {
			w->state = HTTP_BODY;
			return STEP_ON;
		}
		if (waiting(c))
			c->careful = 1;
		push(c, s->stamp, kind);
	} else {
		u32 code = http_code(p, have), kind;

		if (!code) {
			w->state = HTTP_BODY;
			return STEP_ON;
		}
		if (code < 200 && code != 101) {
			w->flags = HTTP_INTERIM;
		} else {
			flush(s, c);
			kind = next_kind(c);
			finish(s, c, http_status(code));
			flush(s, c);
			if (code == 101 || (kind == KIND_CONNECT && code < 300))
				return STEP_OFF;
			if (kind == KIND_HEAD || code == 204 || code == 304)
				w->flags = HTTP_BODILESS;
		}
	}
	s->pos += 8;
	w->state = HTTP_LINE;
	return STEP_ON;
}

static __always_inline int http_field(struct scratch *s, struct conn *c, u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u64 word = *(u64 *)p | 0x2020202020202020ULL;
	u64 rest = *(u64 *)(p + 8) | 0x2020202020202020ULL;
	u64 value = 0;
	u32 i;

	if (p[0] == '\n') {
		s->pos++;
		return http_body(s, c);
	}
	if (p[0] == '\r') {
		if (have < 2)
			return STEP_MORE;
		s->pos += 2;
		return http_body(s, c);
	}
	w->state = HTTP_LINE;
	if ((p[0] | 0x20) != 'c' && (p[0] | 0x20) != 't')
		return STEP_ON;
	if (have < LOOKAHEAD && !s->left && find_newline(s) < 0) {
		w->state = HTTP_FIELD;
		return STEP_MORE;
	}
	if (word == WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
	    (rest & 0xffffffffffffffULL) == WORD('l', 'e', 'n', 'g', 't', 'h', ':', 0)) {
		for (i = 15; i < 30; i++) {
			u8 ch = p[i];

			if (ch == ' ' && !value)
				continue;
			ch -= '0';
			if (ch > 9)
				break;
			value = value * 10 + ch;
		}
		w->flags |= HTTP_LENGTH;
		w->t0 = value;
		return STEP_ON;
	}
	if (word == WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') && rest == WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
	    (p[16] | 0x20) == 'g') {
		for (i = 18; i < 22; i++)
			if ((p[i] | 0x20) == 'c' && (p[i + 1] | 0x20) == 'h')
				w->flags |= HTTP_CHUNKED;
	}
	return STEP_ON;
}

__noinline int http_step(struct scratch *s, struct conn *c)
{
	struct walk *w;
	u8 *p;
	u32 have, i, size = 0;

	if (!s || !c)
		return STEP_LOST;
	w = &s->w;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;

	switch (w->state) {
	case HTTP_START:
		return http_start(s, c, p, have);
	case HTTP_LINE:
	case HTTP_TRAILER_LINE:
		if (pass_line(s))
			w->state = w->state == HTTP_LINE ? HTTP_FIELD : HTTP_TRAILER;
		return STEP_ON;
	case HTTP_FIELD:
		return http_field(s, c, p, have);
	case HTTP_CHUNK:
		for (i = 0; i < 9; i++) {
			u8 ch;

			if (i >= have)
				return STEP_MORE;
			ch = p[i] | 0x20;
			if (ch >= '0' && ch <= '9')
				ch -= '0';
			else if (ch >= 'a' && ch <= 'f')
				ch -= 'a' - 10;
			else
				break;
			size = size << 4 | ch;
		}
		if (i == 0)
			return STEP_LOST;
		s->pos += i;
		w->t0 = size;
		w->state = HTTP_CHUNK_LINE;
		return STEP_ON;
	case HTTP_CHUNK_LINE:
		if (!pass_line(s))
			return STEP_ON;
		if (w->t0) {
			w->skip = w->t0 + 2;
			w->state = HTTP_CHUNK;
		} else {
			w->state = HTTP_TRAILER;
		}
		return STEP_ON;
	case HTTP_TRAILER:
		if (p[0] == '\r') {
			if (have < 2)
				return STEP_MORE;
			s->pos += 2;
			w->state = HTTP_START;
		} else if (p[0] == '\n') {
			s->pos++;
			w->state = HTTP_START;
		} else {
			w->state = HTTP_TRAILER_LINE;
		}
		return STEP_ON;
	default:
		return STEP_REST;
	}
}

/*
 * The usual request, at no more than one read: a whole head without body in one segment. 1: taken; 0: needs the walker.
 * The head must end with the chunk, and no empty line may come before, or there is more than one request in it.
 */
__noinline int http_simple_request(struct scratch *s, struct conn *c)
{
	u32 n, kind, i;

	if (!s || !c)
		return 0;
	n = s->left;
	if (s->blind || s->segment < n || n < 18 || n > BUFFER - 8)
		return 0;
	asm volatile("%0 &= 0x3ff" : "+r"(n));
	if (bpf_probe_read_user(s->buf, n, (void *)s->base)) {
		count(fault);
		return 0;
	}
	i = http_method(s->buf, n, &kind);
	if (!i || s->buf[0] == 'P')
		return 0;
	if (*(u32 *)(s->buf + ((n - 4) & (BUFFER - 1))) != 0x0a0d0a0d)
		return 0;
	n -= 3; /* where the head's own "\n\r" begins */
	for (i = 0; i < BUFFER; i += 8) {
		u64 a, b, z;

		if (i >= n)
			break;
		a = *(u64 *)(s->buf + i) ^ (ONES * '\n');
		b = *(u64 *)(s->buf + i + 1) ^ (ONES * '\r');
		z = zero_bytes(a) & zero_bytes(b);
		if (z && i + lowest_byte(z) < n)
			return 0;
	}
	if (waiting(c))
		c->careful = 1;
	push(c, s->stamp, kind);
	s->good++;
	return 1;
}

#endif
