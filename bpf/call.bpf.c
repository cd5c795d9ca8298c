/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Sends and receives by the end of their system calls, for kernels without the tracepoints of socket.bpf.c. Every system
 * call of every thread comes here, files and pipes too, so what is not a socket's must leave early: by its number, its
 * result, then by the file's operations, which an iterator has learned.
 */
#define MESSAGES 8

/* 0: not ours; else 1 + whether it sends. */
static __always_inline u32 call_kind(u32 nr)
{
	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
		return 1;
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
		return 2;
	}
	return 0;
}

/* The socket that a descriptor of the task is of, as an address. */
static __always_inline struct sock *socket_at(struct task_struct *task, u32 fd)
{
	struct files_struct *files = task->files;
	struct control *ctl = control();
	struct fdtable *table;
	struct file *file;
	struct socket *socket;

	if (!files || !ctl)
		return NULL;
	table = files->fdt;
	if (fd >= table->max_fds || bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd))
		return NULL;
	if ((u64)BPF_CORE_READ(file, f_op) != ctl->socket_ops || !ctl->socket_ops)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* The other end of a datagram that was received is known by now, where the caller asked for it. */
SEC("tp_btf/sys_exit")
int BPF_PROG(call_datagrams, struct pt_regs *regs, long size)
{
	u32 n = 1, i, sending, tgid = bpf_get_current_pid_tgid() >> 32;
	struct scratch *s = left_off(ctx);
	struct sock *sk;
	bool vector, server;
	u16 to;

	if (!s)
		return 0;
	sk = (struct sock *)s->socket;
	to = BPF_CORE_READ(sk, __sk_common.skc_dport);
	server = BPF_CORE_READ(sk, __sk_common.skc_num) == DNS_PORT;
	if (!server && to && to != bpf_htons(DNS_PORT))
		return 0;
	sending = call_kind(regs_nr(regs)) - 1;
	s->nr = regs_nr(regs);
	s->arg2 = regs_2(regs);
	s->arg5 = regs_5(regs);
	s->size = size;
	vector = s->nr == SYS_sendmmsg || s->nr == SYS_recvmmsg;
	if (vector)
		n = size;
	for (i = 0; i < MESSAGES && i < n; i++) {
		s->at = i;
		s->iovs = regs_3(regs);
		if (vector && bpf_probe_read_user(&s->size, 4, (void *)(s->arg2 + i * USER_MMSGHDR + 56)))
			return 0;
		take_datagram(s, sk, to, server, sending, tgid);
	}
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(call_done, struct pt_regs *regs, long result)
{
	struct task_struct *task;
	struct scratch *s;
	u32 nr, kind, flags = 0;
	struct sock *sk;
	struct conn *c;
	u64 at;

	if (result <= 0)
		return 0;
	nr = regs_nr(regs);
	kind = call_kind(nr);
	if (!kind || regs_compat(regs))
		return 0;
	task = bpf_get_current_task_btf();
	sk = socket_at(task, regs_1(regs));
	if (!sk)
		return 0;
	if (nr == SYS_recvfrom || nr == SYS_recvmmsg)
		flags = regs_4(regs);
	else if (nr == SYS_recvmsg)
		flags = regs_3(regs);
	at = (u64)sk;
	c = bpf_map_lookup_elem(&sockets, &at);
	if (c)
		return nr == SYS_sendmmsg || nr == SYS_recvmmsg ? 0 : on_bytes(ctx, sk, c, task, regs, result, flags, kind - 1);
	if ((flags & MSG_PEEK) || nr == SYS_sendfile)
		return 0;
	at = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((at != AF_INET && at != AF_INET6) || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP)
		return 0;
	nr = kind - 1;
	s = bpf_map_lookup_elem(&scratches, &nr);
	if (!s)
		return 0;
	s->context = (u64)ctx;
	s->socket = (u64)sk;
	bpf_tail_call(ctx, &walkers, 1);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(call_walk, struct pt_regs *regs, long result)
{
	struct scratch *s = left_off(ctx);
	struct conn *c;
	u64 at;

	if (!s)
		return 0;
	at = s->socket;
	c = bpf_map_lookup_elem(&sockets, &at);
	return c ? go_on((struct sock *)at, s, c) : 0;
}

/* What is kept by a socket's address goes with it, as storage does by itself. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_gone, struct sock *sk)
{
	struct conn *c = conn_of(sk);
	u64 at = (u64)sk;

	if (!c)
		return 0;
	if (c->proto == PROTO_HTTP2)
		h2_drop(sk);
	bpf_map_delete_elem(&sockets, &at);
	return 0;
}
