/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Which protocol a connection speaks, and the walk over one chunk of it. A guess is made from the first message after a
 * turn of direction; the reply confirms it (pinned) or takes it back. Requests are counted from the guessed one on, since
 * rows are written with the reply; a guess on a connection that was not seen from its opening, or began otherwise, wants
 * VOTES answers first, unless a request of that kind is like nothing else. After MAX_MISSES messages that fit nothing, or
 * guesses that were wrong, the connection is left alone.
 */
#ifndef COROOT_WALK_H
#define COROOT_WALK_H

/* Several parts at a call, while they are in the window. */
__noinline int part_step(struct scratch *s, struct conn *c)
{
	u32 i;
	int verdict;

	if (!s || !c)
		return STEP_LOST;
	for (i = 0; i < 8; i++) {
		if (c->proto == PROTO_ZOOKEEPER)
			verdict = zk_part(s, c);
		else if (c->proto == PROTO_MONGODB)
			verdict = mongodb_part(s, c);
		else if (c->proto == PROTO_KAFKA)
			verdict = kafka_part(s, c);
		else if (c->proto == PROTO_NATS)
			verdict = nats_part(s, c);
		else if (c->proto == PROTO_RABBITMQ)
			verdict = amqp_part(s, c);
		else if (c->proto == PROTO_DUBBO)
			verdict = dubbo_part(s, c);
		else if (c->proto == PROTO_FOUNDATIONDB)
			verdict = fdb_part(s, c);
		else if (c->proto == PROTO_DNS)
			verdict = dns_part(s, c);
		else
			verdict = cassandra_part(s, c);
		if (verdict != STEP_ON)
			return verdict;
		if (used_up(s))
			return STEP_ON;
	}
	return STEP_ON;
}

struct walking {
	struct scratch *s;
	struct conn *c;
	u32 proto;
	u32 verdict;
};

static long step(u32 i, struct walking *x)
{
	struct scratch *s = x->s;
	struct conn *c = x->c;
	int verdict;

	if (s->w.skip) {
		if (pass(s)) {
			x->verdict = STEP_LOST;
			return 1;
		}
		if (s->w.skip)
			return s->left == 0;
	}
	if (s->w.done) {
		if (x->proto == PROTO_MEMCACHED) {
			mc_complete(s, c);
			return s->left == 0 && s->len == s->pos;
		}
		verdict = resp_complete(s, c);
		if (verdict != STEP_ON) {
			x->verdict = verdict;
			return 1;
		}
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
	if (x->proto == PROTO_REDIS)
		verdict = resp_step(s, c);
	else if (x->proto == PROTO_POSTGRES)
		verdict = pg_step(s, c);
	else if (x->proto == PROTO_HTTP)
		verdict = http_step(s, c);
	else if (x->proto == PROTO_MYSQL)
		verdict = my_step(s, c);
	else if (x->proto == PROTO_MEMCACHED)
		verdict = mc_step(s, c);
	else
		verdict = part_step(s, c);
	if (verdict == STEP_ON && (s->left || s->len != s->pos || s->w.done))
		return 0;
	x->verdict = verdict == STEP_ON ? STEP_REST : verdict;
	return 1;
}

static __always_inline void reset_walks(struct conn *c)
{
	__builtin_memset(c->walks, 0, sizeof(c->walks));
	forget(c);
	if (has_more(c->proto))
		clear_slots(c);
}

static __always_inline void leave(struct conn *c)
{
	forget(c);
	c->mode = MODE_OFF;
}

static __always_inline void miss(struct conn *c)
{
	if (++c->misses >= MAX_MISSES) {
		leave(c);
		count(votes_lost);
	}
}

/* The connection is out of step: guess anew at the next request after a turn. A guess that was not sure was wrong. */
static __always_inline void lose(struct conn *c)
{
	bool wrong = c->mode == MODE_TRIAL;

	reset_walks(c);
	c->mode = MODE_GUESS;
	if (!wrong) {
		count(desync);
		return;
	}
	c->proto = PROTO_NONE;
	miss(c);
}

static __always_inline int walk(struct scratch *s, struct conn *c)
{
	struct walking x = { .s = s, .c = c, .proto = c->proto, .verdict = STEP_ON };
	u32 direction = s->direction & 1;
	u32 rest;

	if (direction)
		s->w = c->walks[1];
	else
		s->w = c->walks[0];
	s->pos = 0;
	s->len = s->w.carried & (LOOKAHEAD - 1);
	if (s->len) {
		__builtin_memcpy(s->buf, s->w.carry, LOOKAHEAD);
		s->w.carried = 0;
	}
	if (!s->w.skip && refill(s)) {
		x.verdict = STEP_LOST;
	} else {
		bpf_loop(MAX_STEPS, step, &x, 0);
	}
	if (c->mode == MODE_TRIAL && (direction == RESPONSE || has_messages(c->proto)))
		c->votes = s->good < VOTES - c->votes ? c->votes + s->good : VOTES;
	flush(s, c);
	rest = s->len - s->pos;
	if (x.verdict == STEP_MORE) {
		if (rest >= LOOKAHEAD || s->left) {
			x.verdict = STEP_LOST;
		} else {
			__builtin_memcpy(s->w.carry, s->buf + (s->pos & (BUFFER - 1)), LOOKAHEAD);
			s->w.carried = rest;
		}
	} else if (x.verdict == STEP_ON && s->left) {
		count(step_limit);
		x.verdict = STEP_LOST;
	}
	if (direction)
		c->walks[1] = s->w;
	else
		c->walks[0] = s->w;
	if (x.verdict == STEP_LOST) {
		/* HTTP finds its step again where a chunk begins with a message */
		if (c->proto == PROTO_HTTP)
			c->walks[direction].state = HTTP_BODY, c->walks[direction].skip = 0;
		else
			lose(c);
	} else if (x.verdict == STEP_OFF) {
		leave(c);
	} else if (x.verdict == STEP_AGAIN) {
		reset_walks(c);
		c->mode = MODE_GUESS;
		c->proto = PROTO_NONE;
		c->turn = 0;
	} else if (s->good && c->votes >= VOTES && (direction == RESPONSE || has_messages(c->proto))) {
		c->mode = MODE_PINNED;
	}
	return 0;
}

/* From here on the connection is taken to speak `proto`. */
__noinline int adopt(struct conn *c, u32 proto, u32 request, u32 response, u32 sure)
{
	if (!c)
		return 0;
	reset_walks(c);
	if (has_more(proto))
		clear_slots(c);
	c->walks[REQUEST].state = request;
	c->walks[RESPONSE].state = response;
	c->careful = 0;
	c->votes = sure ? VOTES : 0;
	c->aged = 0;
	c->proto = proto;
	c->mode = MODE_TRIAL;
	return 1;
}

/*
 * Which protocol the request in the window is of, and in which state its walk begins (in the second byte). `size` bytes
 * were sent or received at once. The first message of a `fresh` connection must be one that the protocol begins with.
 * Global, so that the verifier looks at it once.
 */
__noinline int which(struct scratch *s, u32 have, u32 size, u32 fresh)
{
	bool ended = s && s->segment != s->size;
	u32 kind, proto;

	if (!s)
		return PROTO_NONE;
	if (http_method(s->buf, have, &kind))
		return PROTO_HTTP;
	if (resp_request(s->buf, have))
		return PROTO_REDIS;
	if (fresh && pg_startup(s->buf, have))
		return PROTO_POSTGRES;
	if (s->segment == s->size && s->size >= 5 &&
	    bpf_probe_read_user(s->buf + 64, 5, (void *)(s->base + s->size - 5)) == 0) {
		ended = s->buf[67] == '\r' && s->buf[68] == '\n';
		if (pg_request(s->buf, have, s->buf + 64, size))
			return PROTO_POSTGRES | PG_TYPED << 8;
	}
	if (mc_request(s->buf, have, ended))
		return PROTO_MEMCACHED;
	if (!fresh && ended && nats_met(s->buf, have, REQUEST))
		return PROTO_NATS;
	if (fresh ? amqp_preface(s->buf, have) : amqp_met(s, have))
		return PROTO_RABBITMQ | (fresh ? AMQP_PREFACE : AMQP_FRAME) << 8;
	if (fresh ? ch_hello(s->buf, have) : ch_query(s->buf, have, true))
		return PROTO_CLICKHOUSE;
	if (!fresh && my_met(s->buf, have, size))
		return PROTO_MYSQL;
	proto = framed_request(s->buf, have, size, fresh);
	if (proto == PROTO_ZOOKEEPER && fresh && !big32(s->buf + 4))
		return PROTO_ZOOKEEPER | ZK_CONNECT << 8;
	if (proto == PROTO_FOUNDATIONDB && s->buf[10] == 0xdb && s->buf[11] == 0x1f)
		return PROTO_FOUNDATIONDB | FDB_CONNECT << 8;
	return proto;
}

/* 1: a protocol was guessed from this request, or from the greeting of a server. */
static __noinline int guess(struct scratch *s, struct conn *c)
{
	struct walk *w = &c->walks[REQUEST];
	u32 found, proto, state, length = 0;
	u8 fresh = c->fresh;
	int have;

	if (c->key.port == DNS_PORT && s->direction == REQUEST && s->turned) {
		c->fresh = 0;
		return adopt(c, PROTO_DNS, FRAME_HEAD, FRAME_HEAD, 1);
	}
	if (s->direction == REQUEST && w->carried == 4) {
		/* the frame behind a length that was received by itself */
		length = *(u32 *)w->carry;
		fresh = w->flags;
		w->carried = 0;
	} else if (!s->turned) {
		return 0;
	}
	c->fresh = 0;
	if (s->direction == RESPONSE) {
		if (fresh) {
			have = peek(s, 0);
			if (have >= 0 && my_greeting(s->buf, have))
				return adopt(c, PROTO_MYSQL, MY_LOGIN, MY_IDLE, 1);
			if (have >= 0 && nats_greeting(s->buf, have))
				return adopt(c, PROTO_NATS, NATS_START, NATS_START, 1);
		} else {
			have = peek(s, 0);
			if (have >= 0 && nats_met(s->buf, have, RESPONSE))
				return adopt(c, PROTO_NATS, NATS_START, NATS_START, 0);
			if (have >= 0 && amqp_met(s, have))
				return adopt(c, PROTO_RABBITMQ, AMQP_FRAME, AMQP_FRAME, 0);
		}
		/* a server that speaks first, or a reply to something unknown */
		if (!c->proto)
			miss(c);
		return 0;
	}
	have = peek(s, length);
	if (have < 0)
		return 0;
	if (have >= 16 && *(u64 *)s->buf == WORD('P', 'R', 'I', ' ', '*', ' ', 'H', 'T')) {
		adopt(c, PROTO_HTTP2, H2_PREFACE, H2_FRAME, 1);
		c->mode = MODE_PINNED;
		return 1;
	}
	found = which(s, have, length ? s->size + 4 : s->size, fresh);
	proto = found & 255;
	state = (found >> 8) & 255;
	if (!proto) {
		if (tls_record(s->buf, have)) {
			forget(c);
			tls_note(c);
		} else if (!fresh && h2_frames(s->buf, have, s->size)) {
			adopt(c, PROTO_HTTP2, H2_FRAME, H2_SEEK, 1);
		} else if (s->size == 4 && have == 4 && !s->buf[0] && big32(s->buf) >= 8) {
			*(u32 *)w->carry = *(u32 *)s->buf;
			w->carried = 4;
			w->flags = fresh;
		} else {
			miss(c);
		}
		return 0;
	}
	adopt(c, proto, state,
	      proto == PROTO_POSTGRES ? PG_TYPED : proto == PROTO_HTTP ? HTTP_BODY : proto == PROTO_ZOOKEEPER || proto == PROTO_FOUNDATIONDB ? state : 0,
	      fresh || proto == PROTO_HTTP || proto == PROTO_POSTGRES || proto == PROTO_REDIS || proto == PROTO_MYSQL ||
		      proto == PROTO_MONGODB);
	if (length) {
		*(u32 *)w->carry = length;
		w->carried = 4;
	}
	return 1;
}

/* 0: the first reply does not fit the guess. */
static __noinline int confirm(struct scratch *s, struct conn *c)
{
	int have = peek(s, 0);

	if (have < 0)
		return 1;
	if (c->proto == PROTO_HTTP)
		return have < 12 || http_code(s->buf, have) != 0;
	if (c->proto == PROTO_REDIS)
		return resp_response(s->buf[0]);
	if (c->proto == PROTO_MYSQL)
		return my_fits(c, s->buf, have);
	if (c->proto == PROTO_MEMCACHED)
		return mc_fits(s->buf);
	if (c->proto == PROTO_POSTGRES)
		return pg_response(s->buf, have);
	if (c->proto == PROTO_NATS)
		return nats_fits(s->buf, have);
	if (c->proto == PROTO_RABBITMQ)
		return amqp_fits(s->buf, have);
	if (c->proto == PROTO_CLICKHOUSE)
		return ch_fits(s->buf, have, s->size);
	return framed_response(c, s->buf, have);
}

/* Length of the head of a 101 that changes to HTTP/2; 0: it does not. */
__noinline int h2c_head(struct scratch *s)
{
	u32 n, i;

	if (!s)
		return 0;
	n = s->segment < 192 ? s->segment : 192;
	asm volatile("%0 &= 0xff" : "+r"(n));
	if (bpf_probe_read_user(s->buf, n, (void *)s->base))
		return 0;
	s->pos = 0;
	s->len = n;
	for (i = 0; i < 16; i++) {
		int at = find_newline(s);

		if (at < 0)
			return 0;
		s->pos += at + 1;
		/* the empty line */
		if (at < 2)
			return s->count ? s->pos : 0;
		if (*(u32 *)(s->buf + ((s->pos - 5) & (BUFFER - 1))) == 0x0d633268) /* h2c and the line's end */
			s->count = 1;
	}
	return 0;
}

/* A reply on an HTTP connection in the usual gear. 1: done with the chunk; 0: needs the walker. */
static __noinline int http_simple_response(struct scratch *s, struct conn *c)
{
	u32 code, kind;

	if (!waiting(c) || s->blind)
		return 1;
	if (s->segment < 12 || bpf_probe_read_user(s->buf, 12, (void *)s->base)) {
		c->walks[RESPONSE].state = HTTP_START;
		c->careful = 1;
		return 0;
	}
	code = http_code(s->buf, 12);
	if (!code)
		return 1;
	if (code < 200 && code != 101) {
		c->walks[RESPONSE].state = HTTP_START;
		c->careful = 1;
		return 0;
	}
	if (code == 101) {
		u32 head = h2c_head(s);

		if (head) {
			/* the request goes on as stream 1, and its reply follows this head */
			c->started = c->runs[c->head & (RUNS - 1)].t0;
			adopt(c, PROTO_HTTP2, H2_PREFACE, H2_FRAME, 1);
			c->walks[RESPONSE].skip = head;
			c->careful = 2;
			c->mode = MODE_PINNED;
			return 1;
		}
	}
	kind = next_kind(c);
	c->mode = MODE_PINNED;
	settle(c, http_status(code), 1, s->stamp);
	if (code == 101 || (kind == KIND_CONNECT && code < 300))
		leave(c);
	return 1;
}

/* A chunk of HTTP, of which bodies are not read. 1: taken; 0: needs the walker. */
static __always_inline int http_chunk(struct scratch *s, struct conn *c, bool usual)
{
	struct walk *w;

	if (s->direction == REQUEST) {
		w = &c->walks[REQUEST];
		if (w->state == HTTP_BODY)
			w->state = HTTP_START;
		return usual && w->state == HTTP_START && !w->skip && !w->carried && http_simple_request(s, c);
	}
	w = &c->walks[RESPONSE];
	if (!c->careful)
		return http_simple_response(s, c);
	if (w->state == HTTP_BODY) {
		if (!waiting(c))
			return 1;
		w->state = HTTP_START;
	}
	return 0;
}

/* Chunks of the usual shape at one read, without the walker. 1: taken; 0: needs the walker, and nothing has been counted. */
static __always_inline int chunk_usual(struct scratch *s, struct conn *c)
{
	struct walk *w;

	if (c->proto == PROTO_HTTP)
		return http_chunk(s, c, true);
	if (c->proto == PROTO_REDIS) {
		u32 request = s->direction == REQUEST;

		w = request ? &c->walks[REQUEST] : &c->walks[RESPONSE];
		if (!w->need && !w->skip && !w->carried && !w->done &&
		    (request ? resp_simple_requests(s, c) : resp_simple_replies(s, c)))
			return 1;
		s->count = 0;
	}
	return 0;
}

/* Whether the connection's protocol is known and this chunk has nothing to confirm. */
static __always_inline bool chunk_known(const struct scratch *s, const struct conn *c)
{
	return c->mode == MODE_PINNED || (c->mode == MODE_TRIAL && !(s->direction == RESPONSE && s->turned));
}

/* `usual`: it may be of a usual shape; else that was tried where the protocol was known, and is of no use where not. */
static __always_inline int chunk(struct scratch *s, struct conn *c, bool usual)
{
	s->good = 0;
	s->count = 0;
	if (c->mode == MODE_GUESS && (!guess(s, c) || c->proto == PROTO_HTTP2))
		return 0;
	if (c->mode == MODE_TRIAL && s->direction == RESPONSE && s->turned && !confirm(s, c)) {
		reset_walks(c);
		c->mode = MODE_GUESS;
		c->proto = PROTO_NONE;
		miss(c);
		return 0;
	}
	if (usual ? chunk_usual(s, c) : c->proto == PROTO_HTTP && !s->tried && http_chunk(s, c, false))
		return 0;
	if (c->proto == PROTO_CLICKHOUSE)
		return ch_chunk(s, c);
	return walk(s, c);
}

/* One chunk of an HTTP/2 connection. 1: it was something else. Global, so that the verifier looks at it once. */
__noinline int h2_take(struct scratch *s, struct conn *c, struct h2 *h)
{
	u32 direction;
	struct walk *w;
	bool in_step;

	if (!s || !c || !h)
		return 0;
	direction = s->direction & 1;
	w = direction ? &c->walks[1] : &c->walks[0];
	if (c->careful == 2) {
		c->careful = 0;
		h->last = 1;
		h2_open(c, h, 1, c->started);
		c->pushed++;
		c->popped++;
	}
	s->good = 0;
	if (w->state == H2_SEEK) {
		int have = peek(s, 0);

		if (have < 0 || !h2_frames(s->buf, have, s->size)) {
			if (c->mode == MODE_TRIAL && have >= 0)
				miss(c);
			return 0;
		}
		w->state = H2_FRAME;
	}
	s->w = *w;
	if (direction == REQUEST) {
		s->inserted = h->inserted[REQUEST];
		h->paths = 0;
	}
	in_step = h2_walk(s, c, h);
	*w = s->w;
	if (spans_on && direction == REQUEST && h->paths)
		c->kept.prepares = 1;
	if (h->drop) {
		h->drop = 0;
		h2_sweep(c, h, STATUSES, h->refused - 1, s->stamp);
	}
	if (in_step) {
		if (s->good && direction == RESPONSE)
			c->mode = MODE_PINNED;
		return 0;
	}
	__builtin_memset(w, 0, sizeof(*w));
	if (c->mode == MODE_TRIAL) {
		c->mode = MODE_GUESS;
		c->proto = PROTO_NONE;
		miss(c);
		return 1;
	}
	count(desync);
	h->base[direction] = h->inserted[direction];
	if (direction == RESPONSE)
		h2_sweep(c, h, STATUS_UNKNOWN, 0, s->stamp);
	return 0;
}

static __always_inline void h2_chunk(struct sock *sk, struct scratch *s, struct conn *c)
{
	struct h2 *h = h2_of(sk, true);

	if (!h) {
		count(storage_full);
		leave(c);
		return;
	}
	if (h2_take(s, c, h))
		h2_drop(sk);
}

#endif
