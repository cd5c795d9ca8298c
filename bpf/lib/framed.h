/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Protocols of frames with a length in front: ZooKeeper (answers in order), MongoDB, Kafka, Cassandra and Dubbo (told apart
 * by an id), FoundationDB (by the kind of reply). A frame's head says its length and id and, most of the time, its outcome; bodies are read where the outcome is in
 * them. A head that makes no sense puts the connection out of step.
 *
 * MongoDB: a reply is read up to its field `ok`; `ok: 0` and writeErrors are failures; an unacknowledged write is no
 * request; an exhaust hello waits by design. What is compressed counts as answered. Kafka: the error code of replies that
 * have one at a fixed place, and of the first partition of a Produce; a Produce with acks 0 is no request; Fetch and the
 * joining of groups wait by design. Cassandra (v3, v4): errors of the 0x2000s are the client's doing (rejected), but for
 * a statement to be prepared again, which drivers do by themselves. ZooKeeper: what a node's state makes of a request (no
 * node, exists, bad version, not empty ...) is an answer; pings and watch events are no requests. Dubbo: one-way calls and
 * heartbeats are no requests; an exception of the application is a failure where Hessian is spoken. FoundationDB (7, without
 * TLS): reads, read versions, commits and locations; what else is said, watches among it, is passed by, and an error in a
 * reply is not seen.
 */
#ifndef COROOT_FRAMED_H
#define COROOT_FRAMED_H

enum {
	FRAME_HEAD = 0,
	ZK_CONNECT = 1, /* the first frame of either side has a form of its own */
	BSON_ELEMENT = 2,
	KAFKA_ACKS = 3, /* in a Produce, after the client's name */
	KAFKA_TOPIC = 4, /* in the answer to it, at the first topic */
	KAFKA_PARTITION = 5,
	FDB_CONNECT = 6, /* the first packet of either side */
	FDB_MESSAGE = 7, /* behind a packet's head */
};
#define MAX_FRAME (1u << 28)

static __always_inline u32 little32(const u8 *p)
{
	return *(const u32 *)p;
}

/* Goes on after `used` bytes of a frame of `whole`. */
static __always_inline int frame_rest(struct scratch *s, u32 used, u32 whole)
{
	s->pos += used;
	s->w.skip = whole - used;
	s->w.state = FRAME_HEAD;
	s->good++;
	return STEP_ON;
}

static __always_inline bool zk_type(u32 type)
{
	return type <= 27 || (type >= 100 && type <= 107) || type == (u32)-11 || type == (u32)-10;
}

static __always_inline int zk_frame(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 whole, xid, err;

	if (have < 12)
		return STEP_MORE;
	whole = big32(p) + 4;
	xid = big32(p + 4);
	if (whole < 12 || whole > MAX_FRAME)
		return STEP_LOST;
	if (w->state == ZK_CONNECT)
		return xid ? STEP_LOST : frame_rest(s, 12, whole);
	if ((s32)xid < -9)
		return STEP_LOST;
	if (s->direction == REQUEST) {
		if (!zk_type(big32(p + 8)))
			return STEP_LOST;
		if (xid != (u32)-2) {
			push(c, s->stamp, KIND_PLAIN);
			w->id = xid;
		}
		return frame_rest(s, 12, whole);
	}
	if (have < 20)
		return STEP_MORE;
	err = -big32(p + 16);
	if (whole < 20 || err > 255)
		return STEP_LOST;
	if (xid != (u32)-1 && xid != (u32)-2) {
		/* a guess wants the number of a late request back, and one of a transaction */
		if (unsure(c) && (c->walks[REQUEST].id - xid > 64 || p[8]))
			return STEP_LOST;
		/* system errors, session expired or moved, and a request that was throttled */
		if (waiting(c) > s->count)
			finish(s, c, (err >= 1 && err <= 9) || err == 112 || err == 118 || err == 127 ? STATUS_FAILED :
				     err == 102 || err == 115 || err == 114 ? STATUS_REJECTED : STATUS_OK);
	}
	return frame_rest(s, 20, whole);
}

static __always_inline int cassandra_frame(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	u32 whole, stream, status = STATUS_OK, code;

	if (have < 9)
		return STEP_MORE;
	whole = big32(p + 5);
	stream = big16(p + 2);
	if ((p[0] & 0x7f) == 5)
		return STEP_OFF;
	if ((p[0] & 0x7f) < 3 || (p[0] & 0x7f) > 4 || p[0] >> 7 != s->direction || p[4] > 0x10 || whole > MAX_FRAME)
		return STEP_LOST;
	whole += 9;
	if (s->direction == REQUEST) {
		open_slot(c, stream, s->stamp, KIND_PLAIN);
		return frame_rest(s, 9, whole);
	}
	if (p[4] == 0) {
		status = STATUS_FAILED;
		/* the code is at a fixed place unless the frame is compressed, traced or has warnings */
		if (!(p[1] & 0x0f) && whole >= 13) {
			if (have < 13)
				return STEP_MORE;
			code = big32(p + 9);
			if (code == 0x2500)
				status = STATUS_OK;
			else if (code >> 12 == 2)
				status = STATUS_REJECTED;
		}
	}
	/* events have no stream */
	if (!(stream & 0x8000))
		settle_slot(c, stream, status, s->stamp);
	return frame_rest(s, 9, whole);
}

/* Where the error code of an answer is, from the end of its correlation id; -1: at no fixed place. */
static __always_inline int kafka_error_at(u32 key, u32 version)
{
	u32 plain, flexible; /* first versions with the throttle time before it, and with tags before that */

	switch (key) {
	case 18: /* ApiVersions: never tags */
	case 17: /* SaslHandshake */
		return 0;
	case 36: /* SaslAuthenticate */
		return version >= 2 ? 1 : 0;
	case 1: /* Fetch */
		if (version < 7)
			return -1;
		return version >= 12 ? 5 : 4;
	case 10: /* FindCoordinator */
		if (version >= 4)
			return -1;
		plain = 1, flexible = 3;
		break;
	case 11: /* JoinGroup */
		plain = 2, flexible = 6;
		break;
	case 12: /* Heartbeat */
	case 13: /* LeaveGroup */
	case 14: /* SyncGroup */
		plain = 1, flexible = 4;
		break;
	case 22: /* InitProducerId */
		plain = 0, flexible = 2;
		break;
	default:
		return -1;
	}
	return version >= flexible ? 5 : version >= plain ? 4 : 0;
}

static __always_inline int kafka_request(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 whole, key, version, kind = KIND_PLAIN, name;

	if (w->state == KAFKA_ACKS) {
		u32 at = w->word >= 9 ? 2 : w->word >= 3 ? 2 : 0;

		if (have < 4)
			return STEP_MORE;
		/* a transaction has a name here, and wants all acknowledgements */
		if (w->word >= 9 ? p[1] != 0 : w->word >= 3 ? p[0] != 0xff : false)
			at = 4;
		if (at == 4 || big16(p + at))
			open_slot(c, w->id, w->t0, w->word << 8);
		return frame_rest(s, 0, w->need);
	}
	if (have < 14)
		return STEP_MORE;
	whole = big32(p) + 4;
	key = big16(p + 4);
	version = big16(p + 6);
	name = big16(p + 12);
	if (name == 0xffff)
		name = 0;
	if (whole < 14 || whole > MAX_FRAME || key > 100 || version > 30 || name > whole - 14)
		return STEP_LOST;
	if (key == 0) {
		w->t0 = s->stamp;
		w->id = big32(p + 8);
		w->word = version;
		w->need = whole - 14 - name;
		w->skip = name;
		w->state = KAFKA_ACKS;
		s->pos += 14;
		return w->need < 4 ? STEP_LOST : STEP_ON;
	}
	if (key == 1 || key == 11 || key == 14)
		kind = KIND_WAIT;
	open_slot(c, big32(p + 8), s->stamp, key << 16 | version << 8 | kind);
	return frame_rest(s, 14, whole);
}

static __always_inline int kafka_response(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 whole, id, version, need;
	long kind;
	int at;

	if (w->state == KAFKA_TOPIC || w->state == KAFKA_PARTITION) {
		bool flexible = w->word >= 9;

		need = w->need < 12 ? w->need : 12;
		if (have < need)
			return STEP_MORE;
		if (w->state == KAFKA_TOPIC) {
			u32 name = flexible ? p[2] - 1 : big16(p + 4), used = flexible ? 3 : 6;

			if ((flexible ? p[1] & 0x7f : big32(p)) == 0 || (flexible && p[2] >= 128) || w->need < used + name + 10) {
				settle_slot(c, w->id, STATUS_OK, s->stamp);
				return frame_rest(s, 0, w->need);
			}
			w->need -= used + name;
			w->skip = name;
			w->state = KAFKA_PARTITION;
			s->pos += used;
			return STEP_ON;
		}
		settle_slot(c, w->id, big16(p + (flexible ? 5 : 8)) ? STATUS_FAILED : STATUS_OK, s->stamp);
		return frame_rest(s, 0, w->need);
	}
	if (have < 8)
		return STEP_MORE;
	whole = big32(p) + 4;
	id = big32(p + 4);
	if (whole < 8 || whole > MAX_FRAME)
		return STEP_LOST;
	if (have < (whole < 15 ? whole : 15))
		return STEP_MORE;
	kind = slot_kind(c, id);
	if (kind < 0)
		return c->aged ? frame_rest(s, 8, whole) : STEP_LOST;
	version = (kind >> 8) & 255;
	if (kind >> 16 == 0 && (kind & 255) == KIND_PLAIN && whole >= 24) {
		w->id = id;
		w->word = version;
		w->need = whole - 8;
		w->state = KAFKA_TOPIC;
		s->pos += 8;
		return STEP_ON;
	}
	at = kafka_error_at(kind >> 16, version);
	settle_slot(c, id, at >= 0 && whole >= 10 + at && big16(p + 8 + (at & 7)) ? STATUS_FAILED : STATUS_OK, s->stamp);
	return frame_rest(s, 8, whole);
}

/* Bytes of a BSON value of this type; -1: its first four bytes say; -2: not known. */
static __always_inline int bson_size(u8 type)
{
	switch (type) {
	case 0x01:
	case 0x09:
	case 0x11:
	case 0x12:
		return 8;
	case 0x10:
		return 4;
	case 0x08:
		return 1;
	case 0x0a:
		return 0;
	case 0x07:
		return 12;
	case 0x13:
		return 16;
	case 0x02:
	case 0x03:
	case 0x04:
	case 0x05:
		return -1;
	default:
		return -2;
	}
}

/* One field of a reply: its outcome where it says so. */
static __always_inline int mongodb_field(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 i, n = 0, used, status = STATUS_OK, need = w->need < LOOKAHEAD - 1 ? w->need : LOOKAHEAD - 1;
	u64 z, value;
	int size;

	if (have < need)
		return STEP_MORE;
	if (!w->need)
		return STEP_LOST;
	if (!p[0])
		goto settle; /* a document without `ok` */
	for (i = 0; i < 24; i += 8) {
		z = zero_bytes(*(const u64 *)(p + 1 + i));
		if (z) {
			n = i + lowest_byte(z);
			break;
		}
	}
	size = bson_size(p[0]);
	/* no field of a reply's outcome has such a name or value */
	if (!z || size == -2)
		goto settle;
	used = 2 + n;
	if (p[1] == 'o' && p[2] == 'k' && !p[3]) {
		value = *(const u64 *)(p + 4);
		if (p[0] == 0x08)
			value &= 255;
		else if (p[0] == 0x10)
			value &= 0xffffffff;
		if (!value)
			status = STATUS_FAILED;
		goto settle;
	}
	if (*(const u64 *)(p + 1) == WORD('w', 'r', 'i', 't', 'e', 'E', 'r', 'r')) {
		status = STATUS_FAILED;
		goto settle;
	}
	if (size == -1) {
		value = little32(p + (used & 31));
		/* documents and arrays count their own four bytes; binary has a byte more */
		size = value + (p[0] == 0x02 ? 4 : p[0] == 0x05 ? 5 : 0);
		if (value > MAX_FRAME)
			return STEP_LOST;
	}
	if (used + (u32)size > w->need)
		return STEP_LOST;
	w->need -= used + size;
	w->skip = size;
	s->pos += used;
	return STEP_ON;
settle:
	settle_slot(c, w->id, status, s->stamp);
	return frame_rest(s, 0, w->need);
}

static __always_inline int mongodb_frame(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 whole, code, flags;

	if (w->state == BSON_ELEMENT)
		return mongodb_field(s, c, p, have);
	if (have < 16)
		return STEP_MORE;
	whole = little32(p);
	code = little32(p + 12);
	if (whole < 21 || whole > MAX_FRAME || (code != 2013 && code != 2012 && code != (s->direction == REQUEST ? 2004 : 1)))
		return STEP_LOST;
	if (have < 25 && have < whole)
		return STEP_MORE;
	flags = little32(p + 16);
	if (s->direction == REQUEST) {
		if (code != 2013)
			open_slot(c, little32(p + 4), s->stamp, KIND_PLAIN);
		else if (!(flags & 2))
			open_slot(c, little32(p + 4), s->stamp, flags & 1 << 16 ? KIND_WAIT : KIND_PLAIN);
		return frame_rest(s, 16, whole);
	}
	w->id = little32(p + 8);
	if (code == 2013 && (flags & 2))
		return frame_rest(s, 16, whole); /* more answers to the same request follow */
	if (code == 2013 && whole >= 26 && !p[20]) {
		w->need = whole - 25;
		w->state = BSON_ELEMENT;
		s->pos += 25;
		return STEP_ON;
	}
	settle_slot(c, w->id, code == 1 && (flags & 2) ? STATUS_FAILED : STATUS_OK, s->stamp);
	return frame_rest(s, 16, whole);
}

static __always_inline int dubbo_frame(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	u32 whole, status = STATUS_OK;
	u8 flags = p[2];

	if (have < 16)
		return STEP_MORE;
	whole = big32(p + 12);
	if (p[0] != 0xda || p[1] != 0xbb || whole > MAX_FRAME)
		return STEP_LOST;
	whole += 16;
	/* either side sends heartbeats, and calls back */
	if (flags & 0x20 || flags >> 7 == s->direction)
		return frame_rest(s, 16, whole);
	if (s->direction == REQUEST) {
		if (flags & 0x40)
			open_slot(c, big32(p + 8), s->stamp, KIND_PLAIN);
		return frame_rest(s, 16, whole);
	}
	if (p[3] != 20) {
		status = p[3] == 40 ? STATUS_REJECTED : STATUS_FAILED;
	} else if ((flags & 0x1f) == 2 && whole > 16) {
		if (have < 17)
			return STEP_MORE;
		/* 0 and 3 as small numbers: an exception, without and with attachments */
		if (p[16] == 0x90 || p[16] == 0x93)
			status = STATUS_FAILED;
	}
	settle_slot(c, big32(p + 8), status, s->stamp);
	return frame_rest(s, 16, whole);
}

/* The type of the reply to a request of this type; 0: not one that counts. */
static __always_inline u32 fdb_reply(u32 request)
{
	switch (request) {
	case 8454530: /* GetValue */
		return 1378929;
	case 6795746: /* GetKeyValues */
		return 1783066;
	case 6795747: /* GetMappedKeyValues */
		return 1783067;
	case 10457870: /* GetKey */
		return 11226513;
	case 838566: /* GetReadVersion */
		return 15709388;
	case 93948: /* CommitTransaction */
		return 14254927;
	case 9144680: /* GetKeyServerLocations */
		return 10636023;
	default:
		return 0;
	}
}

static __always_inline bool fdb_replies(u32 type)
{
	return type >> 24 == 2 && ((type & 0xffffff) == 1378929 || (type & 0xffffff) == 1783066 || (type & 0xffffff) == 1783067 ||
				   (type & 0xffffff) == 11226513 || (type & 0xffffff) == 15709388 ||
				   (type & 0xffffff) == 14254927 || (type & 0xffffff) == 10636023);
}

static __always_inline int fdb_packet(struct scratch *s, struct conn *c, const u8 *p, u32 have)
{
	struct walk *w = &s->w;
	u32 length, type;

	if (have < (w->state == FDB_MESSAGE ? 8 : 12))
		return STEP_MORE;
	length = little32(p);
	if (w->state == FDB_CONNECT) {
		if (p[10] != 0xdb || p[11] != 0x1f || length < 12 || length > 255)
			return STEP_LOST;
		return frame_rest(s, 12, length + 4);
	}
	if (w->state == FRAME_HEAD) {
		/* length, checksum, and the token of whom it is for */
		if (have < 28)
			return STEP_MORE;
		if (length < 24 || length > MAX_FRAME)
			return STEP_LOST;
		s->pos += 28;
		w->need = length - 16;
		w->state = FDB_MESSAGE;
		return STEP_ON;
	}
	type = little32(p + 4);
	if (s->direction == REQUEST) {
		type = fdb_reply(type);
		if (type)
			open_slot(c, type, s->stamp, KIND_PLAIN);
	} else if (fdb_replies(type)) {
		settle_slot(c, type & 0xffffff, STATUS_OK, s->stamp);
	}
	return frame_rest(s, 8, w->need);
}

/* One frame's head, or one part of its body; global, so that the verifier looks at each once. */
__noinline int zk_part(struct scratch *s, struct conn *c)
{
	return s && c ? zk_frame(s, c, s->buf + (s->pos & (BUFFER - 1)), s->len - s->pos) : STEP_LOST;
}

__noinline int cassandra_part(struct scratch *s, struct conn *c)
{
	return s && c ? cassandra_frame(s, c, s->buf + (s->pos & (BUFFER - 1)), s->len - s->pos) : STEP_LOST;
}

__noinline int mongodb_part(struct scratch *s, struct conn *c)
{
	return s && c ? mongodb_frame(s, c, s->buf + (s->pos & (BUFFER - 1)), s->len - s->pos) : STEP_LOST;
}

__noinline int dubbo_part(struct scratch *s, struct conn *c)
{
	return s && c ? dubbo_frame(s, c, s->buf + (s->pos & (BUFFER - 1)), s->len - s->pos) : STEP_LOST;
}

__noinline int fdb_part(struct scratch *s, struct conn *c)
{
	return s && c ? fdb_packet(s, c, s->buf + (s->pos & (BUFFER - 1)), s->len - s->pos) : STEP_LOST;
}

__noinline int kafka_part(struct scratch *s, struct conn *c)
{
	u8 *p;
	u32 have;

	if (!s || !c)
		return STEP_LOST;
	p = s->buf + (s->pos & (BUFFER - 1));
	have = s->len - s->pos;
	return s->direction == REQUEST ? kafka_request(s, c, p, have) : kafka_response(s, c, p, have);
}

/* Which of them a request is; `size` bytes were sent or received at once. Those with an opcode of their own first. */
static __always_inline u32 framed_request(const u8 *p, u32 have, u32 size, bool fresh)
{
	u32 length, name;

	if (have >= 16 && little32(p) >= 21 && little32(p) <= MAX_FRAME && !little32(p + 8) &&
	    (little32(p + 12) == 2013 || little32(p + 12) == 2012 || little32(p + 12) == 2004))
		return PROTO_MONGODB;
	if (have >= 9 && (p[0] == 3 || p[0] == 4) && p[1] < 32 && p[2] < 128 && big32(p + 5) + 9 == size &&
	    (p[4] == 1 || p[4] == 5 ||
	     (!fresh && (p[4] == 7 || p[4] == 9 || p[4] == 10 || p[4] == 11 || p[4] == 13 || p[4] == 15))))
		return PROTO_CASSANDRA;
	if (have >= 16 && p[0] == 0xda && p[1] == 0xbb && p[2] & 0x80 && p[2] & 0x1f && !p[3])
		return PROTO_DUBBO;
	if (have < 12)
		return PROTO_NONE;
	if (fresh && p[10] == 0xdb && p[11] == 0x1f && little32(p) >= 12 && little32(p) < 256)
		return PROTO_FOUNDATIONDB;
	if (!fresh && have >= 36 && little32(p) + 12 == size && fdb_reply(little32(p + 32)))
		return PROTO_FOUNDATIONDB;
	length = big32(p);
	if (length + 4 != size)
		return PROTO_NONE;
	name = big16(p + 12);
	if (have >= 15 && big16(p + 4) <= 100 && big16(p + 6) <= 30 && p[8] < 128 &&
	    (name == 0xffff || (name && name < 256 && name + 10 <= length && p[14] >= ' ' && p[14] < 127)))
		return PROTO_KAFKA;
	if (fresh && (length == 44 || length == 45) && !big32(p + 4))
		return PROTO_ZOOKEEPER;
	return !fresh && (s32)big32(p + 4) >= -9 && big32(p + 4) && zk_type(big32(p + 8)) ? PROTO_ZOOKEEPER : PROTO_NONE;
}

static __always_inline bool framed_response(struct conn *c, const u8 *p, u32 have)
{
	if (c->proto == PROTO_DNS)
		return true;
	if (c->proto == PROTO_CASSANDRA)
		return p[0] == 0x83 || p[0] == 0x84 || p[0] == 0x85;
	if (c->proto == PROTO_MONGODB)
		return have < 16 || little32(p + 12) == 2013 || little32(p + 12) == 2012 || little32(p + 12) == 1;
	if (c->proto == PROTO_DUBBO)
		return p[0] == 0xda && (have < 2 || p[1] == 0xbb);
	if (c->proto == PROTO_FOUNDATIONDB)
		return have < 36 || (p[10] == 0xdb && p[11] == 0x1f) || fdb_replies(little32(p + 32));
	if (have < 8)
		return true;
	if (c->proto == PROTO_KAFKA)
		return slot_kind(c, big32(p + 4)) >= 0;
	return big32(p) >= 16 && big32(p) <= MAX_FRAME && (s32)big32(p + 4) >= -9;
}

#endif
