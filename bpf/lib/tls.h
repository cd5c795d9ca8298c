/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * TLS: plain text is seen at the library's functions (tls.bpf.c), which know an SSL object and no socket. A session is
 * bound to the socket on which the same thread sends or receives within the call, or just before a successful read, or
 * next after a successful write (runtimes that keep cipher text in memory). Votes decide: one that was right twice is
 * given up after the third that disagrees. The session has the walk; its rows go to the socket's edge.
 */
#ifndef COROOT_TLS_H
#define COROOT_TLS_H

#define TLS_SCORE 2

/* Notes that the current process speaks TLS: what the loader decides on. */
__noinline int tls_note(struct conn *c)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct tls_process *process = bpf_map_lookup_elem(&tls_processes, &tgid);
	struct tls_process fresh = {};

	if (!c)
		return 0;
	c->mode = MODE_TLS;
	if (!process) {
		/* a child of one that is read, such as a server's process for one connection, is read at once */
		struct task_struct *task = bpf_get_current_task_btf(), *parent = task->real_parent;
		u32 ptgid = parent->tgid;
		struct tls_process *family = bpf_map_lookup_elem(&tls_processes, &ptgid);

		if (family && family->state == TLS_HOOKED &&
		    BPF_CORE_READ(task, mm, exe_file, f_inode) == BPF_CORE_READ(parent, mm, exe_file, f_inode))
			fresh.state = TLS_HOOKED;
		if (bpf_map_update_elem(&tls_processes, &tgid, &fresh, BPF_NOEXIST))
			count(tls_full);
		process = bpf_map_lookup_elem(&tls_processes, &tgid);
	}
	if (process)
		__sync_fetch_and_add(&process->connections, 1);
	return 0;
}

/* A record of TLS: what connections that are older than the probe begin with as well. */
static __always_inline bool tls_record(const u8 *p, u32 have)
{
	return have >= 3 && p[0] >= 0x14 && p[0] <= 0x17 && p[1] == 3 && p[2] <= 4;
}

static __always_inline struct tls_session *tls_session_of(u64 sk)
{
	struct tls_key *key = bpf_map_lookup_elem(&tls_sockets, &sk);
	struct tls_session *session;

	if (!key)
		return NULL;
	session = bpf_map_lookup_elem(&tls_sessions, key);
	return session && session->sk == sk ? session : NULL;
}

static __always_inline struct h2 *tls_h2_of(u64 sk)
{
	struct tls_key *key = bpf_map_lookup_elem(&tls_sockets, &sk);

	return key ? bpf_map_lookup_elem(&tls_h2s, key) : NULL;
}

static __always_inline void tls_forget(const struct tls_key *key)
{
	bpf_map_delete_elem(&tls_sessions, key);
	bpf_map_delete_elem(&tls_h2s, key);
}

/* Nothing is known of the plain text any more. */
static __noinline void tls_anew(struct conn *c)
{
	__builtin_memset(c->walks, 0, sizeof(c->walks));
	c->popped = c->pushed;
	c->head = c->tail;
	c->waits_out = c->waits_in;
	c->mode = MODE_GUESS;
	c->proto = PROTO_NONE;
	c->turn = 0;
	c->fresh = 0;
	c->misses = 0;
}

/* The thread was at this socket when it worked for this session. */
__noinline int tls_vote(struct tls_session *session, struct tls_io *io, u64 ssl)
{
	struct tls_key key = { .ssl = ssl, .tgid = bpf_get_current_pid_tgid() >> 32 };
	u64 sk;

	if (!session || !io)
		return 0;
	sk = io->sk;
	if (session->sk == sk) {
		if (session->score < TLS_SCORE)
			session->score++;
		session->c.id = io->id;
		return 0;
	}
	if (session->score) {
		session->score--;
		return 0;
	}
	if (session->sk) {
		count(tls_rebound);
		bpf_map_delete_elem(&tls_sockets, &session->sk);
	}
	if (bpf_map_update_elem(&tls_sockets, &sk, &key, BPF_ANY)) {
		count(tls_full);
		return 0;
	}
	/* who wrote first was taken for the client while no socket was known, or it is another connection altogether */
	if (session->sk || (session->c.role != io->role && session->c.turn)) {
		tls_anew(&session->c);
		bpf_map_delete_elem(&tls_h2s, &key);
	}
	session->sk = sk;
	session->score = 1;
	session->c.role = io->role;
	session->c.id = io->id;
	return 0;
}

#endif
