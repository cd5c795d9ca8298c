/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Edges: from a socket to its aggregation key, and from the key to its counters. Addresses are 16 bytes, IPv4 mapped.
 * The client's ephemeral port is never in a key; it goes to `pairs` only.
 */
#ifndef COROOT_EDGE_H
#define COROOT_EDGE_H

/*
 * Set by the loader where the hooks are system calls: they lead to a socket's address only, which no helper takes, so that
 * connections are kept by it, and its fields are read by copying. The verifier takes out what does not apply.
 */
const volatile u32 by_address SEC(".rodata.hooks") = 0;
#define field(sk, name) (by_address ? BPF_CORE_READ(sk, name) : (sk)->name)

static __always_inline struct conn *conn_of(struct sock *sk)
{
	u64 at = (u64)sk;

	return by_address ? bpf_map_lookup_elem(&sockets, &at) : bpf_sk_storage_get(&conns, sk, NULL, 0);
}

/* A new one for a socket; what it holds is not empty in all cases. */
static __always_inline struct conn *conn_for(struct sock *sk)
{
	struct tls_session *empty;
	u64 at = (u64)sk;
	u32 zero = 0;

	if (!by_address)
		return bpf_sk_storage_get(&conns, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	empty = bpf_map_lookup_elem(&zero_session, &zero);
	if (!empty || bpf_map_update_elem(&sockets, &at, &empty->c, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&sockets, &at);
}

/* What an HTTP/2 connection has besides. */
static __always_inline struct h2 *h2_of(struct sock *sk, bool make)
{
	struct tls_key key = { .ssl = (u64)sk };
	struct h2 *h, *empty;
	u32 zero = 0;

	if (!by_address)
		return bpf_sk_storage_get(&h2s, sk, NULL, make ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	h = bpf_map_lookup_elem(&tls_h2s, &key);
	if (h || !make)
		return h;
	empty = bpf_map_lookup_elem(&zero_h2, &zero);
	if (empty)
		bpf_map_update_elem(&tls_h2s, &key, empty, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tls_h2s, &key);
}

static __always_inline void h2_drop(struct sock *sk)
{
	struct tls_key key = { .ssl = (u64)sk };

	if (by_address)
		bpf_map_delete_elem(&tls_h2s, &key);
	else
		bpf_sk_storage_delete(&h2s, sk);
}

static __always_inline void put_mapped(u8 *to, u32 v4)
{
	u32 *words = (u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = 0xffff0000; /* bytes 00 00 ff ff */
	words[3] = v4;
}

static __always_inline void put_v6(u8 *to, const struct in6_addr *from)
{
	u32 *words = (u32 *)to;

	words[0] = from->in6_u.u6_addr32[0];
	words[1] = from->in6_u.u6_addr32[1];
	words[2] = from->in6_u.u6_addr32[2];
	words[3] = from->in6_u.u6_addr32[3];
}

static __always_inline void peer_of(struct sock *sk, u8 *to)
{
	if (field(sk, __sk_common.skc_family) == AF_INET)
		put_mapped(to, field(sk, __sk_common.skc_daddr));
	else if (by_address)
		bpf_core_read(to, 16, &sk->__sk_common.skc_v6_daddr);
	else
		put_v6(to, &sk->__sk_common.skc_v6_daddr);
}

static __always_inline void local_of(struct sock *sk, u8 *to)
{
	if (field(sk, __sk_common.skc_family) == AF_INET)
		put_mapped(to, field(sk, __sk_common.skc_rcv_saddr));
	else if (by_address)
		bpf_core_read(to, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	else
		put_v6(to, &sk->__sk_common.skc_v6_rcv_saddr);
}

/* Where a protocol lies in a list of all. */
static __always_inline u32 place_of(u32 proto)
{
	return (proto - 1) & (PROTOCOLS - 1);
}

static __always_inline bool is_tcp(struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;

	return (family == AF_INET || family == AF_INET6) && sk->sk_protocol == IPPROTO_TCP;
}

static __always_inline bool is_udp(struct sock *sk)
{
	u16 family = sk->__sk_common.skc_family;

	return (family == AF_INET || family == AF_INET6) && sk->sk_protocol == IPPROTO_UDP;
}

static __always_inline void make_key(struct edge_key *key, struct sock *sk, u32 role, u32 tgid)
{
	key->netns = sk->__sk_common.skc_net.net->ns.inum;
	key->role = role;
	key->pad = 0;
	peer_of(sk, key->peer);
	if (role == ROLE_CLIENT) {
		u32 *local = (u32 *)key->local;

		key->tgid = tgid;
		key->port = bpf_ntohs(sk->__sk_common.skc_dport);
		local[0] = local[1] = local[2] = local[3] = 0;
	} else {
		key->tgid = 0;
		key->port = sk->__sk_common.skc_num;
		local_of(sk, key->local);
	}
}

static __always_inline struct edge *edge_of(struct conn *c)
{
	struct edge *edge = bpf_map_lookup_elem(&edges, &c->key);

	return edge ? edge : bpf_map_lookup_elem(&folded, &c->key);
}

/* The edge of a key, made on first use. NULL only when even the folded edges are full. */
static __noinline struct edge *edge_for(struct edge_key *key, u32 tgid)
{
	struct edge *edge = bpf_map_lookup_elem(&edges, key);
	struct control *ctl;
	u32 zero = 0, id;
	void *empty;

	if (!edge)
		edge = bpf_map_lookup_elem(&folded, key);
	if (edge && edge->id)
		return edge;
	ctl = control();
	empty = bpf_map_lookup_elem(&zero_row, &zero);
	if (!ctl || !empty)
		return NULL;
	if (!edge) {
		bpf_map_update_elem(&edges, key, empty, BPF_NOEXIST);
		edge = bpf_map_lookup_elem(&edges, key);
	}
	if (!edge) {
		__sync_fetch_and_add(&ctl->edge_full, 1);
		if (key->role == ROLE_SERVER)
			__builtin_memset(key->peer, 0, sizeof(key->peer));
		else
			key->port = 0;
		bpf_map_update_elem(&folded, key, empty, BPF_NOEXIST);
		edge = bpf_map_lookup_elem(&folded, key);
	}
	if (!edge)
		return NULL;
	/* several may be at it at once: one of them numbers it */
	id = __sync_fetch_and_add(&ctl->next_edge, 1) + 1;
	if (__sync_val_compare_and_swap(&edge->id, 0, id) == 0)
		edge->tgid = key->role == ROLE_CLIENT ? key->tgid : tgid;
	return edge;
}

/* The edge of c->key; c->id becomes its id. */
static __always_inline struct edge *intern(struct conn *c)
{
	struct edge *edge = edge_for(&c->key, c->tgid);

	c->id = edge ? edge->id : 0;
	return edge;
}

/* Moves what the connection's TCP counters have grown by since the last call to its edge. */
static __noinline int fold(struct conn *c, struct edge *edge, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	u64 out, in, bytes = 0;
	u32 retransmits;

	if (!tp)
		return 0;
	out = tp->bytes_sent - tp->bytes_retrans;
	in = tp->bytes_received;
	retransmits = tp->total_retrans;
	/* the peer's FIN counts as one received byte */
	if (in && (sk->sk_shutdown & RCV_SHUTDOWN))
		in--;
	if (out > c->out) {
		__sync_fetch_and_add(&edge->out, out - c->out);
		bytes += out - c->out;
		c->out = out;
	}
	if (in > c->in) {
		__sync_fetch_and_add(&edge->in, in - c->in);
		bytes += in - c->in;
		c->in = in;
	}
	if (retransmits != c->retransmits) {
		__sync_fetch_and_add(&edge->retransmits, retransmits - c->retransmits);
		c->retransmits = retransmits;
	}
	if (bytes && c->mode == MODE_TLS) {
		u64 at = (u64)sk;

		if (!bpf_map_lookup_elem(&tls_sockets, &at))
			count_n(tls_blind_bytes, bytes);
	} else if (bytes && !c->proto) {
		count_n(unknown_bytes, bytes);
	}
	if (bytes && tp->srtt_us) {
		__sync_fetch_and_add(&edge->rtt_us, tp->srtt_us >> 3);
		__sync_fetch_and_add(&edge->rtt_count, 1);
	}
	return 0;
}

#endif
