/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * DNS (RFC 1035) over UDP and TCP: a question and its answer, matched over UDP by socket, id and question, over TCP by
 * connection and id. NXDOMAIN is the client's doing (rejected); other codes but NOERROR are failures. A question that is
 * asked again while it waits, or has waited too long, was not answered. At clients the agent is told of as many answers
 * as its budget has room for; counts do not depend on that. Updates, notifies and zone transfers are no requests.
 */
#ifndef COROOT_DNS_H
#define COROOT_DNS_H

#define DNS_PORT 53
#define DNS_HEADER 12
/* header, the longest name, type and class */
#define DNS_HEAD (DNS_HEADER + 255 + 4)
#define DNS_NXDOMAIN 3
#define DNS_IXFR 251
#define DNS_AXFR 252

static __always_inline u32 big16(const u8 *p)
{
	return (u32)p[0] << 8 | p[1];
}

static __always_inline u32 dns_status(u32 code)
{
	return code == 0 ? STATUS_OK : code == DNS_NXDOMAIN ? STATUS_REJECTED : STATUS_FAILED;
}

static __always_inline u32 dns_kind(u32 type)
{
	return type < 256 ? type : 0;
}

struct naming {
	struct scratch *s;
	u64 hash;
	u32 from;
	u32 at;
	u32 have;
	u32 length; /* with the empty label at its end; 0: not found */
};

static long name_label(u32 i, struct naming *x)
{
	u32 byte;

	if (x->at >= x->have)
		return 1;
	byte = x->s->buf[(x->from + x->at) & (BUFFER - 1)];
	if (!byte)
		x->length = x->at + 1;
	if (!byte || byte > 63)
		return 1;
	x->at += byte + 1;
	return x->at > 254;
}

static long name_word(u32 i, struct naming *x)
{
	u64 word = *(u64 *)(x->s->buf + ((x->from + i * 8) & (BUFFER - 1)));
	u32 left = x->length - i * 8;

	if (left < 8)
		word &= (1ULL << left * 8) - 1;
	x->hash = (x->hash ^ word) * 0x9e3779b97f4a7c15ULL;
	x->hash ^= x->hash >> 32;
	return left <= 8;
}

/* The question of the message at `from` in the window: its hash and type, and its name's length. 0: none. */
__noinline int dns_question(struct scratch *s, u32 from, u32 have)
{
	struct naming x = { .s = s, .from = from + DNS_HEADER, .have = have - DNS_HEADER };

	if (!s)
		return 0;
	s->ask.type = 0;
	bpf_loop(128, name_label, &x, 0);
	if (!x.length || x.length + 4 > x.have)
		return 0;
	bpf_loop(32, name_word, &x, 0);
	s->ask.type = big16(s->buf + ((x.from + x.length) & (BUFFER - 1)));
	s->asked.question = x.hash ^ s->ask.type;
	s->ask.length = x.length <= QUESTION ? x.length : 0;
	return 1;
}

/* Reads a datagram's head. The role of its socket, or -1 where it is no question or answer. */
__noinline int dns_head(struct scratch *s, u32 sending)
{
	u32 n;

	if (!s)
		return -1;
	n = s->segment < DNS_HEAD ? s->segment : DNS_HEAD;
	asm volatile("%0 &= 0x1ff" : "+r"(n));
	if (n < DNS_HEADER + 5)
		return -1;
	if (bpf_probe_read_user(s->buf, n, (void *)s->base)) {
		count(fault);
		return -1;
	}
	if ((s->buf[2] & 0x78) || big16(s->buf + 4) != 1 || !dns_question(s, 0, n))
		return -1;
	return (s->buf[2] >> 7) == !sending ? ROLE_CLIENT : ROLE_SERVER;
}

/* Tells the agent of an answer, or of a question that had none: its message is at `from` in the window or at s->base. */
__noinline int dns_tell(struct scratch *s, u32 edge, u32 status, u64 took, u32 from)
{
	struct control *ctl = control();
	struct name_event *e;
	u32 n;

	if (!s || !ctl)
		return 0;
	if (ctl->names >= NAMES_PER_TICK || !(e = bpf_ringbuf_reserve(&names, sizeof(*e), 0))) {
		count(names_over);
		return 0;
	}
	__sync_fetch_and_add(&ctl->names, 1);
	n = s->told;
	if (n > NAME_HEAD)
		n = NAME_HEAD;
	e->mono_ns = bpf_ktime_get_ns();
	e->edge = edge;
	took /= 1000;
	e->latency_us = took > 0xffffffff ? 0xffffffff : took;
	e->type = s->ask.type;
	e->status = status & 255;
	e->rcode = status >> 8;
	e->pad = 0;
	e->length = n;
	if (from ? bpf_probe_read_kernel(e->data, n, s->buf + (from & (BUFFER - 1))) :
		   bpf_probe_read_user(e->data, n, (void *)s->base))
		e->length = 0;
	bpf_ringbuf_submit(e, bpf_ringbuf_query(&names, BPF_RB_AVAIL_DATA) > NAME_RING / 2 ? BPF_RB_FORCE_WAKEUP :
											       BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline u32 dns_edge(struct scratch *s, u32 tgid)
{
	struct edge *edge = edge_for(&s->key, tgid);

	if (!edge)
		return 0;
	if (s->key.role == ROLE_SERVER && edge->tgid != tgid)
		edge->tgid = tgid;
	return edge->id;
}

/* A datagram with a question or an answer, read by dns_head; its edge's key is in s->key. 1: it was a question. */
__noinline int dns_take(struct scratch *s, u32 tgid)
{
	u64 now = bpf_ktime_get_ns(), took;
	struct lookup *known;
	u32 role, id, code, proto;

	if (!s)
		return 0;
	role = s->key.role;
	s->asked.socket = s->socket;
	s->asked.id = big16(s->buf);
	s->asked.role = role;
	s->asked.pad = 0;
	known = bpf_map_lookup_elem(&lookups, &s->asked);
	s->told = s->segment;
	proto = PROTO_DNS | dns_kind(s->ask.type) << 8;
	if (s->buf[2] & 0x80) {
		if (!known) {
			count(lookup_unmatched);
			return 0;
		}
		code = s->buf[3] & 15;
		took = now - known->t0;
		id = role == ROLE_SERVER ? dns_edge(s, tgid) : known->edge;
		record(id, proto | code << 16, dns_status(code), took, 1);
		if (known->count > 1)
			__sync_fetch_and_add(&known->count, -1);
		else
			bpf_map_delete_elem(&lookups, &s->asked);
		if (role == ROLE_CLIENT)
			dns_tell(s, id, dns_status(code) | code << 8, took, 0);
		return 0;
	}
	if (known && role == ROLE_SERVER) {
		__sync_fetch_and_add(&known->count, 1);
		return 1;
	}
	if (known) {
		took = now - known->t0;
		known->t0 = now;
		record(known->edge, proto, STATUS_UNANSWERED, took, 1);
		dns_tell(s, known->edge, STATUS_UNANSWERED, took, 0);
		known->edge = dns_edge(s, tgid);
		return 1;
	}
	s->ask.t0 = now;
	s->ask.count = 1;
	s->ask.edge = dns_edge(s, tgid);
	s->ask.pad = 0;
	bpf_probe_read_kernel(s->ask.name, sizeof(s->ask.name), s->buf + DNS_HEADER);
	if (bpf_map_update_elem(&lookups, &s->asked, &s->ask, BPF_NOEXIST))
		count(lookup_full);
	return 1;
}

/* A message over TCP, behind its length. Its type is known where the whole question is in the window. */
__noinline int dns_part(struct scratch *s, struct conn *c)
{
	u32 have, whole, id, code, from;
	long kind;
	u64 took = 0;
	u8 *p;

	if (!s || !c)
		return STEP_LOST;
	from = s->pos & (BUFFER - 1);
	p = s->buf + from;
	have = s->len - s->pos;
	if (have < 2 + DNS_HEADER)
		return STEP_MORE;
	whole = big16(p) + 2;
	id = big16(p + 2);
	if (whole < 2 + DNS_HEADER || p[4] >> 7 != s->direction)
		return STEP_LOST;
	if (!(p[4] & 0x78)) {
		dns_question(s, from + 2, have - 2);
		if (s->direction == REQUEST) {
			if (s->ask.type == DNS_AXFR || s->ask.type == DNS_IXFR)
				return STEP_OFF;
			open_slot(c, id, s->stamp, dns_kind(s->ask.type) << 8);
		} else {
			code = p[5] & 15;
			kind = slot_kind(c, id);
			if (kind >= 0)
				took = settle_slot(c, id, dns_status(code) | code << 8, s->stamp);
			if (kind >= 0 && c->role == ROLE_CLIENT) {
				s->told = (have < whole ? have : whole) - 2;
				dns_tell(s, c->id, dns_status(code) | code << 8, took, from + 2);
			}
		}
	}
	s->pos += 2 + DNS_HEADER;
	s->w.skip = whole - 2 - DNS_HEADER;
	s->w.state = 0;
	s->good++;
	return STEP_ON;
}

#endif
