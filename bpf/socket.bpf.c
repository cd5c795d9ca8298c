/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Every successful send and receive of a TCP socket, after it is done: the payload is still in the caller's buffers,
 * which the system call's registers name. Files, pipes and other sockets never come here.
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
};
#define regs_nr(r) ((u32)(r)->syscallno)
#define regs_2(r) ((r)->regs[1])
#define regs_3(r) ((r)->regs[2])
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
};
#define regs_nr(r) ((u32)(r)->orig_ax)
#define regs_2(r) ((r)->si)
#define regs_3(r) ((r)->dx)
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

static __always_inline int on_data(struct sock *sk, int size, int flags, int sending)
{
	struct scratch *s;
	struct conn *c;
	struct task_struct *task;
	struct tcp_sock *tp;
	u32 key = sending, tgid;

	if (size <= 0 || !is_tcp(sk))
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
