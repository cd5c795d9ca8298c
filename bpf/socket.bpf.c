/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Every send and receive of a TCP or UDP socket, after it is done: the payload is still in the caller's buffers, which
 * the system call's registers name. Files, pipes and other sockets never come here. Of UDP, DNS is looked at. What
 * call.bpf.c needs of it as well takes the registers, and a socket that may be a mere address.
 */
#if defined(__TARGET_ARCH_arm64)
enum {
	SYS_read = 63,
	SYS_write = 64,
	SYS_readv = 65,
	SYS_writev = 66,
	SYS_sendfile = 71,
	SYS_sendto = 206,
	SYS_recvfrom = 207,
	SYS_sendmsg = 211,
	SYS_recvmsg = 212,
	SYS_recvmmsg = 243,
	SYS_sendmmsg = 269,
};
#define regs_nr(r) ((u32)(r)->syscallno)
#define regs_1(r) ((r)->orig_x0)
#define regs_2(r) ((r)->regs[1])
#define regs_3(r) ((r)->regs[2])
#define regs_4(r) ((r)->regs[3])
#define regs_5(r) ((r)->regs[4])
#define regs_compat(r) ((r)->pstate & 0x10)
#else
enum {
	SYS_read = 0,
	SYS_write = 1,
	SYS_readv = 19,
	SYS_writev = 20,
	SYS_sendfile = 40,
	SYS_sendto = 44,
	SYS_recvfrom = 45,
	SYS_sendmsg = 46,
	SYS_recvmsg = 47,
	SYS_recvmmsg = 299,
	SYS_sendmmsg = 307,
};
#define regs_nr(r) ((u32)(r)->orig_ax)
#define regs_1(r) ((r)->di)
#define regs_2(r) ((r)->si)
#define regs_3(r) ((r)->dx)
#define regs_4(r) ((r)->r10)
#define regs_5(r) ((r)->r8)
#define regs_compat(r) ((r)->cs == 0x23)
#endif

#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000
#define MSG_PEEK 2
#define MSG_TRUNC 0x20
#define IOVECS 1024

struct user_message {
	u64 iov;
	u64 iovs;
};

/* The registers of the system call that a task is in. NULL: it is in none that we can read. */
static __always_inline struct pt_regs *regs_of(struct task_struct *task)
{
	struct pt_regs *regs;

	if (task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return NULL;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	return regs && !regs_compat(regs) ? regs : NULL;
}

/* Finds the caller's buffers; payload that cannot be found (sendfile, io_uring, kernel threads) is passed by blind. */
static __always_inline void find_payload(struct scratch *s, struct pt_regs *regs, u32 size, int sending)
{
	u32 nr;

	s->size = size;
	s->left = size;
	s->segment = size;
	s->iovs = 0;
	s->blind = 1;
	s->base = 0;
	if (!regs)
		return;
	nr = regs_nr(regs);
	if (nr == (sending ? SYS_write : SYS_read) || nr == (sending ? SYS_sendto : SYS_recvfrom)) {
		s->base = regs_2(regs);
		s->blind = 0;
		return;
	}
	if (nr == (sending ? SYS_writev : SYS_readv)) {
		s->iov = regs_2(regs);
		s->iovs = regs_3(regs);
	} else if (nr == (sending ? SYS_sendmsg : SYS_recvmsg)) {
		struct user_message m;

		if (bpf_probe_read_user(&m, sizeof(m), (void *)(regs_2(regs) + 16)))
			return;
		s->iov = m.iov;
		s->iovs = m.iovs;
	} else {
		return;
	}
	if (s->iovs > IOVECS || next_segment(s)) {
		s->iovs = 0;
		s->segment = size;
		return;
	}
	s->blind = 0;
}

/*
 * When the bytes just sent left: the hook runs after the send, by when the peer may have answered. Where all is
 * acknowledged, the send time of what was acknowledged last; else that of the last packet; else now. The connection's own
 * copy of the clock spares reading it.
 */
static __always_inline u64 sent_at(const struct tcp_sock *tp)
{
	u64 now = field(tp, tcp_clock_cache), at;
	u32 end = field(tp, write_seq);

	if (field(tp, snd_nxt) != end)
		return bpf_ktime_get_ns();
	at = field(tp, snd_una) == end ? field(tp, rack.mstamp) * 1000 : field(tp, tcp_wstamp_ns);
	return at && at <= now && now - at < 1000000000ULL ? at : bpf_ktime_get_ns();
}

/*
 * When a chunk was sent or received. The clock was read when the last packet came in, so it stands between the arrival of
 * bytes and now.
 */
static __always_inline u64 stamp_at(struct tcp_sock *tp, u32 sending)
{
	if (!tp)
		return bpf_ktime_get_ns();
	return sending ? sent_at(tp) : field(tp, tcp_clock_cache);
}

static __always_inline struct tcp_sock *tcp_of(struct sock *sk)
{
	return by_address ? (struct tcp_sock *)sk : bpf_skc_to_tcp_sock(sk);
}

/* What became of requests in this chunk may be told. */
static __always_inline void span_after(struct sock *sk, struct scratch *s, struct conn *c)
{
	u32 ours, theirs;
	struct tcp_sock *tp;

	if (!span_due(c) || !span_step(s, c))
		return;
	tp = tcp_of(sk);
	if (!tp)
		return;
	/* what was sent and acknowledged from the first byte on, and what was received */
	ours = field(tp, snd_una) - (u32)field(tp, bytes_acked) + (c->role == ROLE_CLIENT);
	theirs = field(tp, rcv_nxt) - (u32)field(tp, bytes_received);
	s->initial[0] = c->role == ROLE_CLIENT ? ours : theirs;
	s->initial[1] = c->role == ROLE_CLIENT ? theirs : ours;
	/* an address is another connection's soon */
	s->cookie = (u64)s->initial[0] << 32 | s->initial[1];
	span_told(s, c);
}

/* A thread that is known to use a TLS library sends or receives cipher text: tells its session's socket. */
static __always_inline int tls_socket(struct sock *sk, struct conn *c, struct task_struct *task, struct pt_regs *regs,
				      u32 size, u32 sending)
{
	struct tls_thread *t = bpf_task_storage_get(&tls_threads, task, NULL, 0);
	struct tls_io *io;

	if (!t)
		return 0;
	io = sending ? &t->sent : &t->received;
	io->sk = (u64)sk;
	io->id = c->id;
	io->role = c->role;
	io->inside = t->depth != 0;
	io->stamp = stamp_at(tcp_of(sk), sending);
	if (sending && t->wrote) {
		struct tls_key key = { .ssl = t->wrote, .tgid = task->tgid };
		struct tls_session *session;
		u8 type = 0;

		/* handshakes and alerts of other sessions may go first */
		find_payload(&t->scratch, by_address ? regs : regs_of(task), size, 1);
		if (t->scratch.blind || bpf_probe_read_user(&type, 1, (void *)t->scratch.base) || type != 0x17)
			return 0;
		t->wrote = 0;
		session = bpf_map_lookup_elem(&tls_sessions, &key);
		if (session)
			tls_vote(session, io, key.ssl);
	}
	return 0;
}

struct user_head {
	u64 name;
	u64 name_length;
	u64 iov;
	u64 iovs;
};
#define USER_MMSGHDR 64

/*
 * Where a datagram's payload and the other end's address are, from the system call's arguments in `s`. 0: they cannot be
 * found. Global, so that the verifier looks at it once.
 */
__noinline int find_datagram(struct scratch *s)
{
	struct user_head m;
	u64 head;

	if (!s)
		return 0;
	s->blind = 0;
	if (s->nr == SYS_write || s->nr == SYS_read || s->nr == SYS_sendto || s->nr == SYS_recvfrom) {
		s->base = s->arg2;
		s->segment = s->size;
		s->address = s->nr == SYS_sendto || (by_address && s->nr == SYS_recvfrom) ? s->arg5 : 0;
		return 1;
	}
	head = s->arg2 + (u64)s->at * USER_MMSGHDR;
	if (s->nr == SYS_writev || s->nr == SYS_readv) {
		m.name = 0;
		m.iov = s->arg2;
		m.iovs = s->iovs;
	} else if (bpf_probe_read_user(&m, sizeof(m), (void *)head)) {
		return 0;
	}
	s->address = m.name;
	s->iov = m.iov;
	s->iovs = m.iovs;
	s->left = s->size;
	return m.iovs && m.iovs <= IOVECS && next_segment(s) == 0;
}

/* The other end of an unconnected socket: its port, with its address in s->key. 0: not known. */
__noinline int find_peer(struct scratch *s)
{
	u64 head;

	if (!s || !s->address || bpf_probe_read_user(&head, sizeof(head), (void *)s->address))
		return 0;
	if ((head & 0xffff) == AF_INET)
		put_mapped(s->key.peer, head >> 32);
	else if ((head & 0xffff) != AF_INET6 || bpf_probe_read_user(s->key.peer, 16, (void *)(s->address + 8)))
		return 0;
	return bpf_ntohs((head >> 16) & 0xffff);
}

/* Which message of a vector this is: the calls for it follow each other, and an error or another call ends them. */
static __always_inline int find_message(struct scratch *s, struct sock *sk, u32 thread, u32 vlen, u32 sending)
{
	struct resolver *r = bpf_sk_storage_get(&resolvers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	u32 at;

	if (!r)
		return 0;
	at = r->vector[sending] == s->arg2 && r->thread[sending] == thread ? r->next[sending] : 0;
	if (at >= vlen)
		at = 0;
	r->vector[sending] = s->arg2;
	r->thread[sending] = thread;
	r->next[sending] = at + 1 < vlen ? at + 1 : 0;
	s->at = at;
	return 1;
}

/* A message of DNS, where it is one: `s` has the call's arguments. -1: it is none; 1: a question of a client. */
static __always_inline int take_datagram(struct scratch *s, struct sock *sk, u16 to, bool server, u32 sending, u32 tgid)
{
	u16 port = bpf_ntohs(to);
	int role;

	if (!find_datagram(s))
		return -1;
	__builtin_memset(s->key.peer, 0, 16);
	if (to) {
		peer_of(sk, s->key.peer);
	} else if (sending || by_address) {
		port = find_peer(s);
		/* a receiver that does not ask who sent is given what its socket has asked for */
		if (!server && port != DNS_PORT && (sending || port))
			return -1;
	}
	role = dns_head(s, sending);
	if (role < 0 || (by_address && !server && !port && role != ROLE_CLIENT))
		return -1;
	s->key.netns = by_address ? BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) : sk->__sk_common.skc_net.net->ns.inum;
	s->key.role = role;
	s->key.pad = 0;
	s->key.tgid = role == ROLE_CLIENT ? tgid : 0;
	s->key.port = DNS_PORT;
	if (role == ROLE_CLIENT)
		__builtin_memset(s->key.local, 0, 16);
	else
		local_of(sk, s->key.local);
	s->socket = (u64)sk;
	return dns_take(s, tgid) && role == ROLE_CLIENT;
}

/*
 * DNS is what goes to or comes from port 53. A receiving socket that is not connected tells by having sent there. The
 * address that a datagram came from is not known yet when this runs, so that a server learns its caller with the answer.
 */
static __always_inline int on_datagram(struct sock *sk, int size, int flags, u32 sending)
{
	u16 to = sk->__sk_common.skc_dport;
	bool server = sk->__sk_common.skc_num == DNS_PORT;
	struct task_struct *task;
	struct resolver *r;
	struct scratch *s;
	struct pt_regs *regs;
	u32 key = sending;

	if (!server && to && to != bpf_htons(DNS_PORT))
		return 0;
	r = bpf_sk_storage_get(&resolvers, sk, NULL, 0);
	if (!server && !to && !sending && !r)
		return 0;
	if (r) {
		r->next[!sending] = 0;
		if (size <= 0)
			r->next[sending] = 0;
	}
	if (size <= 0 || (flags & MSG_PEEK))
		return 0;
	task = bpf_get_current_task_btf();
	regs = regs_of(task);
	s = bpf_map_lookup_elem(&scratches, &key);
	if (!regs || !s)
		return 0;
	s->nr = regs_nr(regs);
	s->arg2 = regs_2(regs);
	s->arg5 = regs_5(regs);
	s->iovs = regs_3(regs);
	s->size = size;
	s->at = 0;
	if (s->nr == (sending ? SYS_sendmmsg : SYS_recvmmsg)) {
		if (!find_message(s, sk, task->pid, s->iovs, sending))
			return 0;
	} else if (s->nr != (sending ? SYS_sendto : SYS_recvfrom) && s->nr != (sending ? SYS_sendmsg : SYS_recvmsg) &&
		   s->nr != (sending ? SYS_write : SYS_read) && s->nr != (sending ? SYS_writev : SYS_readv)) {
		return 0;
	}
	if (take_datagram(s, sk, to, server, sending, task->tgid) <= 0 || to || server || r)
		return 0;
	bpf_sk_storage_get(&resolvers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	return 0;
}

/*
 * `size` bytes of a connection; `regs` where they are at hand. What is not of the usual shape is left to another program,
 * so that the verifier looks at the walkers once for both of the sockets' hooks, and they have the stack for themselves.
 */
static __always_inline int on_bytes(void *ctx, struct sock *sk, struct conn *c, struct task_struct *task, struct pt_regs *regs,
				    int size, int flags, int sending)
{
	struct tcp_sock *tp;
	struct scratch *s;
	u32 key = sending, tgid;

	if (!sending && c->role == ROLE_SERVER) {
		tgid = task->tgid;
		if (c->tgid != tgid && tgid) {
			struct edge *edge = edge_of(c);

			c->tgid = tgid;
			if (edge)
				edge->tgid = tgid;
		}
	}
	if (c->mode == MODE_OFF || (flags & MSG_PEEK))
		return 0;
	if (c->mode == MODE_TLS)
		return tls_socket(sk, c, task, regs, size, sending);
	s = bpf_map_lookup_elem(&scratches, &key);
	if (!s)
		return 0;
	tp = tcp_of(sk);
	s->stamp = stamp_at(tp, sending);
	if (spans_on) {
		s->seq = (!tp ? 0 : sending ? field(tp, write_seq) : field(tp, copied_seq)) - size;
		s->thread = task->pid;
	}
	s->direction = (c->role == ROLE_CLIENT) == sending ? REQUEST : RESPONSE;
	s->turned = c->turn != s->direction + 1;
	c->turn = s->direction + 1;
	find_payload(s, by_address ? regs : regs_of(task), size, sending);
	span_mark(s);
	if (flags & MSG_TRUNC)
		s->blind = 1;
	if (s->blind)
		count(blind);
	s->good = 0;
	s->count = 0;
	s->tried = chunk_known(s, c);
	if (s->tried && chunk_usual(s, c)) {
		s->whole = s->direction == REQUEST;
		span_after(sk, s, c);
		return 0;
	}
	s->context = (u64)ctx;
	s->socket = (u64)sk;
	bpf_tail_call(ctx, &walkers, 0);
	return 0;
}

/* What was left off with this context: calls that are under way at a time have their arguments at different places. */
static __always_inline struct scratch *left_off(void *ctx)
{
	u32 sent = 1, received = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &sent);

	if (s && s->context != (u64)ctx)
		s = bpf_map_lookup_elem(&scratches, &received);
	/* the next call may have them at the same place */
	if (s)
		s->context = 0;
	return s;
}

static __always_inline int go_on(struct sock *sk, struct scratch *s, struct conn *c)
{
	if (c->proto != PROTO_HTTP2)
		chunk(s, c, false);
	if (c->proto == PROTO_HTTP2 && c->mode != MODE_OFF)
		h2_chunk(sk, s, c);
	s->whole = 0;
	span_after(sk, s, c);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_walk, struct sock *sk, int size, int flags)
{
	struct scratch *s = left_off(ctx);
	struct conn *c = conn_of(sk);

	return s && c ? go_on(sk, s, c) : 0;
}

static __always_inline int on_data(void *ctx, struct sock *sk, int size, int flags, int sending)
{
	struct conn *c;

	if (!is_tcp(sk))
		return is_udp(sk) ? on_datagram(sk, size, flags, sending) : 0;
	if (size <= 0)
		return 0;
	c = conn_of(sk);
	return c ? on_bytes(ctx, sk, c, bpf_get_current_task_btf(), NULL, size, flags, sending) : 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int size, int flags)
{
	return on_data(ctx, sk, size, 0, 1);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_receive, struct sock *sk, int size, int flags)
{
	return on_data(ctx, sk, size, flags, 0);
}
