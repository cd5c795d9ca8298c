/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Every send and receive of a TCP or UDP socket, after it is done: the payload is still in the caller's buffers, which
 * the system call's registers name. Files, pipes and other sockets never come here. Of UDP, DNS is looked at.
 */
#if defined(__TARGET_ARCH_arm64)
enum {
	SYS_read = 63,
	SYS_write = 64,
	SYS_readv = 65,
	SYS_writev = 66,
	SYS_sendto = 206,
	SYS_recvfrom = 207,
	SYS_sendmsg = 211,
	SYS_recvmsg = 212,
	SYS_recvmmsg = 243,
	SYS_sendmmsg = 269,
};
#define regs_nr(r) ((u32)(r)->syscallno)
#define regs_2(r) ((r)->regs[1])
#define regs_3(r) ((r)->regs[2])
#define regs_5(r) ((r)->regs[4])
#define regs_compat(r) ((r)->pstate & 0x10)
#else
enum {
	SYS_read = 0,
	SYS_write = 1,
	SYS_readv = 19,
	SYS_writev = 20,
	SYS_sendto = 44,
	SYS_recvfrom = 45,
	SYS_sendmsg = 46,
	SYS_recvmsg = 47,
	SYS_recvmmsg = 299,
	SYS_sendmmsg = 307,
};
#define regs_nr(r) ((u32)(r)->orig_ax)
#define regs_2(r) ((r)->si)
#define regs_3(r) ((r)->dx)
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

/* Finds the caller's buffers; payload that cannot be found (sendfile, io_uring, kernel threads) is passed by blind. */
static __always_inline void find_payload(struct scratch *s, struct task_struct *task, u32 size, int sending)
{
	struct pt_regs *regs;
	u32 nr;

	s->size = size;
	s->left = size;
	s->segment = size;
	s->iovs = 0;
	s->blind = 1;
	s->base = 0;
	if (task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	if (!regs || regs_compat(regs))
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
	u64 now = tp->tcp_clock_cache, at;

	if (tp->snd_nxt != tp->write_seq)
		return bpf_ktime_get_ns();
	at = tp->snd_una == tp->write_seq ? tp->rack.mstamp * 1000 : tp->tcp_wstamp_ns;
	return at && at <= now && now - at < 1000000000ULL ? at : bpf_ktime_get_ns();
}

/* A thread that is known to use a TLS library sends or receives cipher text: tells its session's socket. */
static __noinline int tls_socket(struct sock *sk, struct conn *c, struct task_struct *task, u32 size, u32 sending)
{
	struct tls_thread *t = bpf_task_storage_get(&tls_threads, task, NULL, 0);
	struct tcp_sock *tp;
	struct tls_io *io;

	if (!t)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	io = sending ? &t->sent : &t->received;
	io->sk = (u64)sk;
	io->id = c->id;
	io->role = c->role;
	io->inside = t->depth != 0;
	io->stamp = sending ? sent_at(tp) : tp->tcp_clock_cache;
	if (sending && t->wrote) {
		struct tls_key key = { .ssl = t->wrote, .tgid = task->tgid };
		struct tls_session *session;
		u8 type = 0;

		/* handshakes and alerts of other sessions may go first */
		find_payload(&t->scratch, task, size, 1);
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
		s->address = s->nr == SYS_sendto ? s->arg5 : 0;
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

/*
 * DNS is what goes to or comes from port 53. A receiving socket that is not connected tells by having sent there. The
 * address that a datagram came from is not known yet when this runs, so that a server learns its caller with the answer.
 */
static __always_inline int on_datagram(struct sock *sk, int size, int flags, u32 sending)
{
	u16 to = sk->__sk_common.skc_dport, port;
	bool server = sk->__sk_common.skc_num == DNS_PORT;
	struct task_struct *task;
	struct resolver *r;
	struct scratch *s;
	struct pt_regs *regs;
	u32 key = sending, role;
	int found;

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
	if (task->flags & (PF_KTHREAD | PF_IO_WORKER))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	s = bpf_map_lookup_elem(&scratches, &key);
	if (!regs || regs_compat(regs) || !s)
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
	if (!find_datagram(s))
		return 0;
	__builtin_memset(s->key.peer, 0, 16);
	port = bpf_ntohs(to);
	if (to) {
		peer_of(sk, s->key.peer);
	} else if (sending) {
		port = find_peer(s);
		if (!server && port != DNS_PORT)
			return 0;
	}
	found = dns_head(s, sending);
	if (found < 0)
		return 0;
	role = found;
	s->key.netns = sk->__sk_common.skc_net.net->ns.inum;
	s->key.role = role;
	s->key.pad = 0;
	s->key.tgid = role == ROLE_CLIENT ? task->tgid : 0;
	s->key.port = DNS_PORT;
	if (role == ROLE_CLIENT)
		__builtin_memset(s->key.local, 0, 16);
	else
		local_of(sk, s->key.local);
	s->socket = (u64)sk;
	if (!dns_take(s, task->tgid) || to || server || role != ROLE_CLIENT || r)
		return 0;
	bpf_sk_storage_get(&resolvers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	return 0;
}

static __always_inline int on_data(struct sock *sk, int size, int flags, int sending)
{
	struct scratch *s;
	struct conn *c;
	struct task_struct *task;
	struct tcp_sock *tp;
	u32 key = sending, tgid;

	if (!is_tcp(sk))
		return is_udp(sk) ? on_datagram(sk, size, flags, sending) : 0;
	if (size <= 0)
		return 0;
	c = bpf_sk_storage_get(&conns, sk, NULL, 0);
	if (!c)
		return 0;
	task = bpf_get_current_task_btf();
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
		return tls_socket(sk, c, task, size, sending);
	s = bpf_map_lookup_elem(&scratches, &key);
	if (!s)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	/* the clock was read when the last packet came in, so it stands between the arrival of the bytes and now */
	s->stamp = sending ? sent_at(tp) : tp->tcp_clock_cache;
	s->direction = (c->role == ROLE_CLIENT) == sending ? REQUEST : RESPONSE;
	s->turned = c->turn != s->direction + 1;
	c->turn = s->direction + 1;
	find_payload(s, task, size, sending);
	if (flags & MSG_TRUNC)
		s->blind = 1;
	if (s->blind)
		count(blind);
	if (c->proto != PROTO_HTTP2)
		chunk(s, c);
	if (c->proto == PROTO_HTTP2 && c->mode != MODE_OFF)
		h2_chunk(sk, s, c);
	if (span_due(c)) {
		s->seq = (sending ? tp->write_seq : tp->copied_seq) - size;
		s->thread = task->pid;
		if (span_step(s, c)) {
			/* what was sent and acknowledged from the first byte on, and what was received */
			u32 ours = tp->snd_una - (u32)tp->bytes_acked + (c->role == ROLE_CLIENT);
			u32 theirs = tp->rcv_nxt - (u32)tp->bytes_received;

			s->initial[0] = c->role == ROLE_CLIENT ? ours : theirs;
			s->initial[1] = c->role == ROLE_CLIENT ? theirs : ours;
			s->cookie = bpf_get_socket_cookie(sk);
			span_told(s, c);
		}
	}
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int size, int flags)
{
	return on_data(sk, size, 0, 1);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_receive, struct sock *sk, int size, int flags)
{
	return on_data(sk, size, flags, 0);
}
