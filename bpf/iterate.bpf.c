/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Iterators, run by the loader: over all connections each second (what they moved, how many are open, what waits and
 * for how long; each_socket where the kernel refuses each_connection), and over all open files at start and now and
 * then, for sockets that are older than the probe or were missed, and for mounts that are written to. Both see every
 * network namespace.
 */
/* Waits: a stream whose request is whole and whose reply has not begun. */
static long h2_look_one(u32 i, struct h2 **of)
{
	struct h2 *h = *of;
	struct h2_stream *st = &h->streams[i & (H2_STREAMS - 1)];
	u64 t0 = st->t0;

	if (t0 && !st->head && (st->side[REQUEST] & SIDE_ENDED)) {
		h->waiting++;
		if (!h->oldest || t0 < h->oldest)
			h->oldest = t0;
	}
	return 0;
}

static __always_inline void look_h2(struct h2 *h, struct edge *edge)
{
	u64 now = bpf_ktime_get_ns();
	u32 id;

	if (!h || h->opened == h->ended)
		return;
	h->waiting = 0;
	h->oldest = 0;
	bpf_loop(H2_STREAMS, h2_look_one, &h, 0);
	if (!h->waiting)
		return;
	id = place_of(h->grpc ? PROTO_GRPC : PROTO_HTTP);
	edge->waiting[id] += h->waiting;
	if (now > h->oldest && now - h->oldest > edge->oldest_ns[id])
		edge->oldest_ns[id] = now - h->oldest;
}

/* What waits on a connection, and since when. Global, so that the verifier looks at it once. */
__noinline int look_waiting(struct conn *c, struct edge *edge)
{
	struct control *ctl = control();
	struct run run;
	u32 id, n, head;
	u64 now, since;

	if (!c || !edge || !ctl)
		return 0;
	now = bpf_ktime_get_ns();
	if (c->proto == PROTO_CLICKHOUSE)
		ch_rest(c, now);
	n = c->pushed - c->popped;
	n -= c->waits_in - c->waits_out;
	if (!n || n > (1u << 24) || (c->mode != MODE_PINNED && c->mode != MODE_TRIAL))
		return 0;
	if (has_slots(c->proto)) {
		since = oldest_slot(c);
		if (since && now > since + ctl->patience_ns) {
			n -= age_slots(c, now, ctl->patience_ns);
			if (!n)
				return 0;
			since = oldest_slot(c);
		}
	} else {
		head = c->head;
		if (bpf_probe_read_kernel(&run, sizeof(run),
					  (void *)c + offsetof(struct conn, runs) + (head & (RUNS - 1)) * sizeof(run)))
			return 0;
		if (run.end == c->popped)
			bpf_probe_read_kernel(&run, sizeof(run),
					      (void *)c + offsetof(struct conn, runs) + ((head + 1) & (RUNS - 1)) * sizeof(run));
		/* behind a command that waits by design everything waits by design */
		if (run.kind == KIND_WAIT)
			return 0;
		since = run.t0;
	}
	id = place_of(c->proto);
	edge->waiting[id] += n;
	if (since && now > since && now - since > edge->oldest_ns[id])
		edge->oldest_ns[id] = now - since;
	return 0;
}

static __always_inline void look(struct conn *c, struct sock *sk)
{
	struct control *ctl;
	struct h2 *h = NULL;
	struct edge *edge;

	if (!c->opened || c->closed)
		return;
	ctl = control();
	if (!ctl)
		return;
	edge = intern(c);
	if (!edge)
		return;
	if (edge->tick != ctl->tick) {
		edge->tick = ctl->tick;
		edge->active = 0;
		for (int i = 0; i < PROTOCOLS; i++) {
			edge->waiting[i] = 0;
			edge->oldest_ns[i] = 0;
		}
	}
	edge->active++;
	fold(c, edge, sk);
	c->kept.slow_ns = slow_of(c->id);
	if (c->mode == MODE_TLS) {
		struct tls_session *session = tls_session_of((u64)sk);

		if (!session)
			return;
		session->looked = ctl->tick;
		/* edges are numbered anew where they were idle */
		session->c.id = c->id;
		session->c.kept.slow_ns = c->kept.slow_ns;
		c = &session->c;
		if (c->proto == PROTO_HTTP2)
			h = tls_h2_of((u64)sk);
	} else if (c->proto == PROTO_HTTP2) {
		h = h2_of(sk, false);
	}
	if (c->proto != PROTO_HTTP2)
		look_waiting(c, edge);
	else if (c->mode == MODE_PINNED)
		look_h2(h, edge);
}

SEC("iter/bpf_sk_storage_map")
int each_connection(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct conn *c = ctx->value;
	struct sock *sk = ctx->sk;

	if (sk && c)
		look(c, sk);
	return 0;
}

/* The same by way of open files, for kernels that are locked down and refuse iterators over the values of maps. */
SEC("iter/task_file")
int each_socket(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct control *ctl = control();
	struct socket *socket;
	struct conn *c;
	struct sock *sk;

	if (!file || !ctl)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !is_tcp(sk))
		return 0;
	c = conn_of(sk);
	if (!c || c->looked == ctl->tick)
		return 0;
	c->looked = ctl->tick;
	look(c, sk);
	return 0;
}

static __always_inline void look_listener(struct sock *sk, struct listener_key *at, u32 tick)
{
	struct listening *socket = bpf_sk_storage_get(&listenings, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	struct listener *all = bpf_map_lookup_elem(&listeners, at), fresh = {};
	u32 drops;

	if (!all) {
		bpf_map_update_elem(&listeners, at, &fresh, BPF_NOEXIST);
		all = bpf_map_lookup_elem(&listeners, at);
	}
	if (!all || !socket || socket->tick == tick)
		return;
	socket->tick = tick;
	if (all->tick != tick) {
		all->tick = tick;
		all->queue = 0;
		all->limit = 0;
	}
	all->queue += sk->sk_ack_backlog;
	all->limit += sk->sk_max_ack_backlog;
	if (!bpf_core_field_exists(sk->sk_drops))
		return;
	drops = sk->sk_drops.counter;
	all->drops += drops - socket->drops;
	socket->drops = drops;
}

#define FMODE_WRITE 2
#define S_IFMT 0170000
#define S_IFREG 0100000

/* A file that is open for writing: its mount is in use. Sockets, pipes and devices fill up no disk. */
static __always_inline void look_mount(struct task_struct *task, struct file *file, u32 look)
{
	struct mount_key key = { .tgid = task->tgid };
	struct vfsmount *mnt;

	if (!(file->f_mode & FMODE_WRITE) || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFREG)
		return;
	mnt = BPF_CORE_READ(file, f_path.mnt);
	if (!mnt)
		return;
	key.mount = BPF_CORE_READ(container_of(mnt, struct mount, mnt), mnt_id);
	if (bpf_map_update_elem(&mounts, &key, &look, BPF_ANY))
		count(mount_full);
}

SEC("iter/task_file")
int each_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct listener_key at = {};
	struct control *ctl;
	struct socket *socket;
	struct tcp_sock *tp;
	struct edge *edge;
	struct conn *c;
	struct sock *sk;
	u8 state;

	if (!task || !file)
		return 0;
	ctl = control();
	if (!ctl)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket) {
		if (ctl->pass == 0)
			look_mount(task, file, ctl->looks);
		return 0;
	}
	ctl->socket_ops = (u64)file->f_op;
	sk = socket->sk;
	if (!sk || !is_tcp(sk))
		return 0;
	state = sk->__sk_common.skc_state;
	at.netns = sk->__sk_common.skc_net.net->ns.inum;
	at.port = sk->__sk_common.skc_num;
	if (ctl->pass == 0) {
		if (state == TCP_LISTEN)
			look_listener(sk, &at, ctl->looks);
		return 0;
	}
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		return 0;
	if (conn_of(sk))
		return 0;
	c = new_conn(sk, bpf_map_lookup_elem(&listeners, &at) ? ROLE_SERVER : ROLE_CLIENT, task->tgid);
	if (!c)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		c->out = tp->bytes_sent - tp->bytes_retrans;
		c->in = tp->bytes_received;
		c->retransmits = tp->total_retrans;
	}
	edge = intern(c);
	c->kept.slow_ns = slow_of(c->id);
	c->opened = 1;
	if (edge)
		note_pair(c, edge, sk);
	return 0;
}
