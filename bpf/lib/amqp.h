/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * AMQP 0-9-1 (RabbitMQ), frame by frame. On a channel in confirm mode a publish is a request that ends with its ack, or
 * fails with its nack; elsewhere it is a message, and so is each delivery. Other requests are basic.get and the methods
 * of exchanges, queues, consumers and transactions, one at a time per channel. What the server closes a channel or the
 * connection for is a failure: of the method at hand, of the publishes that wait on the channel, or by itself. A message
 * that comes back for want of a queue fails too: in confirm mode it is its ack that counts as the failure.
 * Confirms name a number per channel, one or all up to it; they settle the connection's oldest publishes.
 */
#ifndef COROOT_AMQP_H
#define COROOT_AMQP_H

enum { AMQP_FRAME = 0, AMQP_PREFACE = 1 };
enum { LANE_USED = 1, LANE_CONFIRM = 2 };

static __always_inline u32 bits_of(u32 x)
{
	x -= (x >> 1) & 0x55555555;
	x = (x & 0x33333333) + ((x >> 2) & 0x33333333);
	return (((x + (x >> 4)) & 0x0f0f0f0f) * 0x01010101) >> 24;
}

/* Place of a channel's lane; -1 where it has none and none is free, or none is wanted. */
__noinline int find_lane(struct conn *c, u32 channel, u32 make)
{
	int free = -1;
	u32 i;

	if (!c)
		return -1;
	for (i = 0; i < LANES; i++) {
		struct lane *lane = &c->lanes[i];

		if (!(lane->flags & LANE_USED))
			free = i;
		else if (lane->channel == channel)
			return i;
	}
	if (!make || free < 0)
		return -1;
	__builtin_memset(&c->lanes[free & (LANES - 1)], 0, sizeof(struct lane));
	c->lanes[free & (LANES - 1)].flags = LANE_USED;
	c->lanes[free & (LANES - 1)].channel = channel;
	return free;
}

/* Ends the method that a channel waits for. 1: there was one. */
__noinline int end_method(struct conn *c, u32 at, u32 status, u64 now)
{
	struct lane *lane;
	u32 took;

	if (!c)
		return 0;
	lane = &c->lanes[at & (LANES - 1)];
	if (!lane->since)
		return 0;
	took = (u32)(now >> 10) - lane->since;
	lane->since = 0;
	if (!(lane->flags & LANE_CONFIRM))
		lane->flags = 0;
	record(c->id, PROTO_RABBITMQ, status, took < (1u << 31) ? (u64)took << 10 : 0, 1);
	return 1;
}

/* All methods at hand end, since the connection does. 1: there were some. */
__noinline int end_methods(struct conn *c, u32 status, u64 now)
{
	u32 i, some = 0;

	if (!c)
		return 0;
	for (i = 0; i < LANES; i++)
		some |= end_method(c, i, status, now);
	return some;
}

/* The channel is closed: nothing on it will be confirmed. 1: something waited. */
static __always_inline int close_lane(struct conn *c, u32 at, u32 status, u64 now)
{
	struct lane *lane = &c->lanes[at & (LANES - 1)];
	u32 left = lane->published - lane->acked - bits_of(lane->early) - lane->far;
	int some = end_method(c, at, status, now);

	lane->flags = 0;
	if (!left || left > waiting(c))
		return some;
	settle_n(c, status, left, now);
	return 1;
}

/* Publishes up to the one with this number, or it alone, are confirmed. */
__noinline int confirm_lane(struct conn *c, u32 at, u32 tag, u32 how, u64 now)
{
	u32 status = how & 2 ? STATUS_FAILED : STATUS_OK, n, ahead, returned;
	struct lane *lane;

	if (!c)
		return 0;
	lane = &c->lanes[at & (LANES - 1)];
	/* 0 stands for all */
	ahead = (how & 1) && !tag ? lane->published - lane->acked : tag - lane->acked;
	if (!ahead || ahead > lane->published - lane->acked) {
		count(unmatched);
		return 0;
	}
	if (how & 1) {
		u32 some = ahead < 32 ? (1u << (ahead & 31)) - 1 : ~0u;

		n = ahead - bits_of(lane->early & some);
		lane->early = ahead < 32 ? lane->early >> (ahead & 31) : 0;
		if (ahead > 32) {
			n = n > lane->far ? n - lane->far : 0;
			lane->far = 0;
		}
		lane->acked += ahead;
	} else if (ahead <= 32) {
		u32 bit = 1u << ((ahead - 1) & 31);

		n = !(lane->early & bit);
		lane->early |= bit;
	} else {
		n = 1;
		lane->far++;
	}
	/* those at the front that were confirmed out of turn */
	if (lane->early & 1) {
		u32 low = ~lane->early & (lane->early + 1), k = low ? bits_of(low - 1) : 32;

		lane->acked += k;
		lane->early = k < 32 ? lane->early >> (k & 31) : 0;
	}
	returned = lane->returned < n ? lane->returned : n;
	lane->returned -= returned;
	if (returned)
		settle_n(c, STATUS_FAILED, returned, now);
	if (n - returned)
		settle_n(c, status, n - returned, now);
	return 0;
}

/* Methods that the server answers, by class and number. */
static __always_inline bool amqp_asks(u32 class, u32 method)
{
	if (class == 60)
		return method == 10 || method == 20 || method == 30 || method == 70 || method == 110;
	return (class == 40 || class == 50 || class == 85 || class == 90) && method % 10 == 0;
}

static __always_inline bool amqp_answers(u32 class, u32 method)
{
	if (class == 60)
		return method == 11 || method == 21 || method == 31 || method == 71 || method == 72 || method == 111;
	return (class == 40 || class == 50 || class == 85 || class == 90) && method % 10 == 1;
}

static __always_inline int amqp_request(struct scratch *s, struct conn *c, const u8 *p, u32 class, u32 method)
{
	u32 channel = big16(p + 1);
	int at;

	if (class == 60 && method == 40) {
		at = find_lane(c, channel, 0);
		if (at >= 0 && (c->lanes[at & (LANES - 1)].flags & LANE_CONFIRM)) {
			c->lanes[at & (LANES - 1)].published++;
			push(c, s->stamp, KIND_PLAIN);
		} else {
			finish(s, c, STATUS_OK);
		}
	} else if (amqp_asks(class, method)) {
		at = find_lane(c, channel, 1);
		if (at >= 0) {
			if (class == 85)
				c->lanes[at & (LANES - 1)].flags |= LANE_CONFIRM;
			c->lanes[at & (LANES - 1)].since = (u32)(s->stamp >> 10) | 1;
		}
	} else if (class == 20 && method == 40) {
		at = find_lane(c, channel, 0);
		if (at >= 0)
			close_lane(c, at, STATUS_UNANSWERED, s->stamp);
	}
	return STEP_ON;
}

static __always_inline int amqp_response(struct scratch *s, struct conn *c, const u8 *p, u32 class, u32 method)
{
	int at = find_lane(c, big16(p + 1), 0);

	if (class == 60 && (method == 80 || method == 120)) {
		if (at >= 0 && (c->lanes[at & (LANES - 1)].flags & LANE_CONFIRM))
			confirm_lane(c, at, big32(p + 15), (p[19] & 1) | (method == 120 ? 2 : 0), s->stamp);
	} else if (class == 60 && method == 60) {
		finish(s, c, STATUS_OK);
	} else if (class == 60 && method == 50) {
		if (at >= 0 && (c->lanes[at & (LANES - 1)].flags & LANE_CONFIRM))
			c->lanes[at & (LANES - 1)].returned++;
		else
			finish(s, c, STATUS_FAILED);
	} else if (amqp_answers(class, method)) {
		if (at >= 0)
			end_method(c, at, STATUS_OK, s->stamp);
	} else if (class == 20 && method == 40) {
		if (at < 0 || !close_lane(c, at, STATUS_FAILED, s->stamp))
			finish(s, c, STATUS_FAILED);
	} else if (class == 10 && method == 50 && big16(p + 11) != 200) {
		if (!end_methods(c, STATUS_FAILED, s->stamp))
			finish(s, c, STATUS_FAILED);
	}
	return STEP_ON;
}

static __always_inline bool amqp_class(u32 class, u32 method)
{
	return (class == 10 || class == 20 || class == 40 || class == 50 || class == 60 || class == 85 || class == 90) &&
	       method >= 10 && method <= 120;
}

/* One frame; global, so that the verifier looks at it once. */
__noinline int amqp_part(struct scratch *s, struct conn *c)
{
	u32 have, size, class, method;
	const u8 *p;
	int verdict;

	if (!s || !c)
		return STEP_LOST;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	if (have < 8)
		return STEP_MORE;
	if (s->w.state == AMQP_PREFACE) {
		s->w.state = AMQP_FRAME;
		s->pos += 8;
		return STEP_ON;
	}
	size = big32(p + 3);
	if ((p[0] != 1 && p[0] != 2 && p[0] != 3 && p[0] != 8) || size > MAX_FRAME)
		return STEP_LOST;
	if (p[0] == 1) {
		if (have < 20 && have < 8 + size)
			return STEP_MORE;
		class = big16(p + 7);
		method = big16(p + 9);
		if (size < 4 || !amqp_class(class, method))
			return STEP_LOST;
		verdict = s->direction == REQUEST ? amqp_request(s, c, p, class, method) :
						    amqp_response(s, c, p, class, method);
		if (verdict != STEP_ON)
			return verdict;
	}
	return frame_rest(s, 7, size + 8);
}

static __always_inline bool amqp_preface(const u8 *p, u32 have)
{
	return have >= 8 && *(const u64 *)p == WORD('A', 'M', 'Q', 'P', 0, 0, 9, 1);
}

/* A connection met later: a chunk that begins with a whole method. */
__noinline int amqp_met(struct scratch *s, u32 have)
{
	u32 size, method;
	u8 end = 0;

	if (!s || have < 12 || s->buf[0] != 1)
		return 0;
	size = big32(s->buf + 3);
	method = big16(s->buf + 9);
	if (size < 4 || size + 8 > s->size || !amqp_class(big16(s->buf + 7), method) || method % 10 > 2)
		return 0;
	/* in pieces: the frames that follow will tell */
	if (size + 8 > s->segment)
		return s->segment != s->size;
	return bpf_probe_read_user(&end, 1, (void *)(s->base + size + 7)) == 0 && end == 0xce;
}

static __always_inline bool amqp_fits(const u8 *p, u32 have)
{
	return p[0] == 1 || p[0] == 2 || p[0] == 3 || p[0] == 8;
}

#endif
