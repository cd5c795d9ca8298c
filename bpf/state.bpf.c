/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Life of a TCP connection: who dialled, whether it was answered and how fast, why not, how it ended, and what was left
 * waiting at its end.
 * The server's side is made in a softirq, so its owner is known with the first receive.
 */
static __always_inline struct conn *new_conn(struct sock *sk, u32 role, u32 tgid)
{
	struct conn *c = conn_for(sk);

	if (!c) {
		count(storage_full);
		return NULL;
	}
	__builtin_memset(c, 0, offsetof(struct conn, runs));
	__builtin_memset(&c->kept, 0, offsetof(struct head, data));
	c->role = role;
	c->tgid = tgid;
	make_key(&c->key, sk, role, tgid);
	return c;
}

/* The client's address and port, so that both ends of a connection can be told to be the same. */
static __noinline void note_pair(struct conn *c, struct edge *edge, struct sock *sk)
{
	u32 at = __sync_fetch_and_add(&edge->pair_count, 1);
	struct edge_pair *pair = &edge->pairs[at & (PAIRS - 1)];

	if (c->role == ROLE_CLIENT) {
		local_of(sk, pair->ip);
		pair->port = sk->__sk_common.skc_num;
	} else {
		peer_of(sk, pair->ip);
		pair->port = bpf_ntohs(sk->__sk_common.skc_dport);
	}
}

static __always_inline void opened(struct conn *c, struct sock *sk, u64 took)
{
	struct edge *edge = intern(c);

	c->kept.slow_ns = slow_of(c->id);
	c->opened = 1;
	c->fresh = 1;
	if (!edge)
		return;
	__sync_fetch_and_add(&edge->opens, 1);
	__sync_fetch_and_add(&edge->connect_ns, took);
	note_pair(c, edge, sk);
}

/*
 * A connect failed: the socket's error says why. It has none where the caller closed the socket first; that is a timeout
 * if the first packet had to be sent again (after a second), unless an answer of the network has told more.
 */
static __noinline void failed(struct conn *c, struct sock *sk)
{
	struct edge *edge = intern(c);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	int error = sk->sk_err;

	c->closed = 1;
	if (!edge)
		return;
	__sync_fetch_and_add(&edge->failed, 1);
	if (!error)
		error = sk->sk_err_soft;
	if (!error && tp && tp->total_retrans)
		error = ETIMEDOUT;
	if (error == ECONNREFUSED)
		__sync_fetch_and_add(&edge->troubles[TROUBLE_REFUSED], 1);
	else if (error == ETIMEDOUT)
		__sync_fetch_and_add(&edge->troubles[TROUBLE_TIMED_OUT], 1);
	else if (error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN)
		__sync_fetch_and_add(&edge->troubles[TROUBLE_UNREACHABLE], 1);
}

/* The connection is over: what waits is unanswered. */
__noinline int abandon(struct conn *c)
{
	u32 left;

	if (!c || c->mode == MODE_TLS || c->proto == PROTO_HTTP2)
		return 0;
	left = waiting(c);
	if (c->proto == PROTO_RABBITMQ && c->mode == MODE_PINNED)
		end_methods(c, STATUS_UNANSWERED, bpf_ktime_get_ns());
	if (c->proto == PROTO_CLICKHOUSE && c->walks[RESPONSE].need == CH_ENDED) {
		ch_end(c, STATUS_OK);
		left = waiting(c);
	}
	if (!left || c->mode == MODE_OFF || c->mode == MODE_GUESS)
		return 0;
	/* a guess that no reply has confirmed counts only where the guess cannot well be wrong */
	if (c->mode == MODE_TRIAL && c->proto != PROTO_HTTP && c->proto != PROTO_POSTGRES && c->proto != PROTO_DNS)
		return 0;
	if (c->proto == PROTO_POSTGRES && c->walks[RESPONSE].status == STATUS_FAILED) {
		settle(c, STATUS_FAILED, 1, bpf_ktime_get_ns());
		left--;
	}
	if (has_slots(c->proto))
		abandon_slots(c, bpf_ktime_get_ns());
	else if (left)
		settle(c, STATUS_UNANSWERED, left, bpf_ktime_get_ns());
	c->mode = MODE_OFF;
	return 0;
}

static __always_inline void abandon_h2(struct conn *c, struct h2 *h)
{
	if (c->mode == MODE_PINNED && h && h->opened != h->ended)
		h2_sweep(c, h, STATUS_UNANSWERED, 0, bpf_ktime_get_ns());
	c->mode = MODE_OFF;
}

static __always_inline void ended(struct conn *c, struct sock *sk)
{
	struct edge *edge = edge_of(c);
	u64 at = (u64)sk;

	c->closed = 1;
	if (edge) {
		int error = sk->sk_err;

		__sync_fetch_and_add(&edge->closes, 1);
		/* EPIPE: it was reset after its end */
		if (error == ECONNRESET || error == EPIPE)
			__sync_fetch_and_add(&edge->troubles[TROUBLE_RESET], 1);
		else if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH)
			__sync_fetch_and_add(&edge->troubles[TROUBLE_LOST], 1);
		fold(c, edge, sk);
	}
	if (c->mode == MODE_TLS) {
		struct tls_key *found = bpf_map_lookup_elem(&tls_sockets, &at), key;
		struct tls_session *session;

		if (!found)
			return;
		key = *found;
		session = bpf_map_lookup_elem(&tls_sessions, &key);
		if (session && session->sk == at) {
			if (session->c.proto == PROTO_HTTP2)
				abandon_h2(&session->c, bpf_map_lookup_elem(&tls_h2s, &key));
			else
				abandon(&session->c);
			span_abandon(&session->c, key.ssl);
			tls_forget(&key);
		}
		bpf_map_delete_elem(&tls_sockets, &at);
		return;
	}
	if (c->proto == PROTO_HTTP2)
		abandon_h2(c, h2_of(sk, false));
	else
		abandon(c);
	span_abandon(c, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int new)
{
	struct conn *c;

	if (!is_tcp(sk))
		return 0;
	if (new == TCP_SYN_SENT) {
		c = new_conn(sk, ROLE_CLIENT, bpf_get_current_pid_tgid() >> 32);
		if (c)
			c->started = bpf_ktime_get_ns();
		return 0;
	}
	if (old == TCP_SYN_RECV && new == TCP_ESTABLISHED) {
		c = new_conn(sk, ROLE_SERVER, 0);
		if (c)
			opened(c, sk, 0);
		return 0;
	}
	if (old == TCP_SYN_SENT) {
		c = conn_of(sk);
		if (!c)
			return 0;
		if (new == TCP_ESTABLISHED) {
			opened(c, sk, bpf_ktime_get_ns() - c->started);
		} else if (new == TCP_CLOSE) {
			failed(c, sk);
		}
		return 0;
	}
	if (new == TCP_CLOSE) {
		c = conn_of(sk);
		if (c && c->opened && !c->closed)
			ended(c, sk);
	}
	return 0;
}

/* A reset is sent, never in the usual course of a connection. Those of no connection (a port that nobody has) have no edge. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_reset, struct sock *sk)
{
	struct edge *edge;
	struct conn *c;

	if (!sk)
		return 0;
	c = conn_of(sk);
	if (!c || !c->opened)
		return 0;
	edge = edge_of(c);
	if (edge)
		__sync_fetch_and_add(&edge->troubles[TROUBLE_RESET_SENT], 1);
	return 0;
}
