/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Functions of TLS libraries, at their entries and at their returns (plain uprobes at places that the loader finds in the
 * code; return probes break stacks that move and some programs). The cookie says what is at a place. A return is of the call
 * that began at the same stack pointer: calls are nested where the library calls back into the program.
 */
#if defined(__TARGET_ARCH_arm64)
#define arg_1(r) ((r)->regs[0])
#define arg_2(r) ((r)->regs[1])
#define arg_4(r) ((r)->regs[3])
#define result(r) ((r)->regs[0])
#define go_1(r) ((r)->regs[0])
#define go_2(r) ((r)->regs[1])
#define goroutine(r) ((r)->regs[28])
#else
#define arg_1(r) ((r)->di)
#define arg_2(r) ((r)->si)
#define arg_4(r) ((r)->cx)
#define result(r) ((r)->ax)
#define go_1(r) ((r)->ax)
#define go_2(r) ((r)->bx)
#define goroutine(r) ((r)->r14)
#endif
static __always_inline struct tls_session *tls_session(const struct tls_key *key)
{
	struct tls_session *session = bpf_map_lookup_elem(&tls_sessions, key);
	u32 zero = 0;

	if (session && session->freed) {
		tls_forget(key);
		session = NULL;
	}
	if (!session) {
		struct tls_session *empty = bpf_map_lookup_elem(&zero_session, &zero);

		if (!empty)
			return NULL;
		bpf_map_update_elem(&tls_sessions, key, empty, BPF_NOEXIST);
		session = bpf_map_lookup_elem(&tls_sessions, key);
		if (!session) {
			count(tls_full);
			return NULL;
		}
		session->c.fresh = 1;
	}
	return session;
}

/* `n` bytes of plain text were written or read. */
static __always_inline int tls_plain(struct tls_thread *t, struct tls_frame *call, u32 n, u32 sending, u32 go)
{
	struct tls_key key = { .ssl = call->ssl, .tgid = bpf_get_current_pid_tgid() >> 32 };
	struct tls_session *session = tls_session(&key);
	struct scratch *s = &t->scratch;
	struct control *ctl = control();
	struct conn *c;

	if (!session || !ctl)
		return 0;
	c = &session->c;
	session->looked = ctl->tick;
	if (!session->sk && sending)
		c->role = c->turn ? c->role : ROLE_CLIENT;
	if (sending) {
		/* a goroutine sends on the thread that it returns on, but for rare moves between */
		if (go ? t->sent.sk && t->sent.stamp + 2000 >= call->sp : t->sent.inside) {
			tls_vote(session, &t->sent, call->ssl);
			s->stamp = t->sent.stamp;
		} else {
			if (!go)
				t->wrote = call->ssl;
			s->stamp = bpf_ktime_get_ns();
		}
	} else {
		if (t->received.sk)
			tls_vote(session, &t->received, call->ssl);
		if (t->received.sk == session->sk)
			session->stamp = t->received.stamp;
		s->stamp = session->stamp;
	}
	if (c->mode == MODE_OFF || c->mode == MODE_TLS)
		return 0;
	s->direction = (c->role == ROLE_CLIENT) == sending ? REQUEST : RESPONSE;
	if (s->direction == RESPONSE && !c->id) {
		count(tls_unbound);
		return 0;
	}
	s->turned = c->turn != s->direction + 1;
	c->turn = s->direction + 1;
	s->size = n;
	s->left = n;
	s->segment = n;
	s->iovs = 0;
	s->blind = call->base == 0;
	s->base = call->base;
	span_mark(s);
	if (c->proto != PROTO_HTTP2)
		chunk(s, c, true);
	if (c->proto == PROTO_HTTP2 && c->mode != MODE_OFF) {
		struct h2 *h = bpf_map_lookup_elem(&tls_h2s, &key);
		u32 zero = 0;

		if (!h) {
			struct h2 *empty = bpf_map_lookup_elem(&zero_h2, &zero);

			if (empty)
				bpf_map_update_elem(&tls_h2s, &key, empty, BPF_NOEXIST);
			h = bpf_map_lookup_elem(&tls_h2s, &key);
		}
		if (!h) {
			count(tls_full);
			leave(c);
		} else if (h2_take(s, c, h)) {
			bpf_map_delete_elem(&tls_h2s, &key);
		}
	}
	if (span_due(c)) {
		s->seq = s->initial[0] = s->initial[1] = 0;
		s->cookie = key.ssl;
		s->thread = bpf_get_current_pid_tgid();
		if (span_step(s, c))
			span_told(s, c);
	}
	return 0;
}

/* The state of a thread, with what its process says in this tick; NULL where the process does not speak TLS. */
static __always_inline struct tls_thread *tls_thread(struct tls_thread *t, u32 tick, u32 tgid)
{
	struct tls_process *process = bpf_map_lookup_elem(&tls_processes, &tgid);

	if (!t) {
		if (!process || process->state != TLS_HOOKED)
			return NULL;
		t = bpf_task_storage_get(&tls_threads, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!t)
			return NULL;
	}
	t->tick = tick;
	t->hooked = process && process->state == TLS_HOOKED;
	if (process) {
		__sync_fetch_and_add(&process->traps, t->traps);
		__sync_fetch_and_add(&process->slow_traps, t->slow_traps);
	}
	t->traps = t->slow_traps = 0;
	return t;
}

/* the loader makes it one of uprobe_multi, which libbpf has no name for before 1.3 */
SEC("uprobe")
int tls_call(struct pt_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs), sp;
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	u32 sending = cookie & TLS_WRITES ? 1 : 0;
	struct control *ctl = control();
	struct tls_frame *call;
	struct tls_thread *t;
	s64 n;

	if ((cookie & TLS_NOTHING) || !ctl)
		return 0;
	t = bpf_task_storage_get(&tls_threads, bpf_get_current_task_btf(), NULL, 0);
	if (!t || t->tick != ctl->tick) {
		t = tls_thread(t, ctl->tick, tgid);
		if (!t)
			return 0;
	}
	if (cookie & TLS_SLOW)
		t->slow_traps++;
	else
		t->traps++;
	if (!t->hooked)
		return 0;
	if (cookie & TLS_FREES) {
		u64 plain = arg_1(regs), go = go_1(regs);
		struct tls_key key = { .tgid = tgid };
		struct tls_session *session;

		/* or the compiler reads one of them, at an offset that it calculates, which the verifier refuses */
		asm volatile("" : "+r"(plain), "+r"(go));
		key.ssl = cookie & TLS_GO ? go : plain;
		session = bpf_map_lookup_elem(&tls_sessions, &key);

		if (session)
			session->freed = 1;
		return 0;
	}
	if (cookie & TLS_GO) {
		struct tls_key key = { .ssl = goroutine(regs), .tgid = tgid };

		if (!(cookie & TLS_LEAVES)) {
			struct tls_frame frame = { .sp = bpf_ktime_get_ns(), .ssl = go_1(regs), .base = go_2(regs) };

			if (bpf_map_update_elem(&tls_goroutines, &key, &frame, BPF_ANY))
				count(tls_full);
			return 0;
		}
		call = bpf_map_lookup_elem(&tls_goroutines, &key);
		if (!call)
			return 0;
		t->go = *call;
		call = &t->go;
		bpf_map_delete_elem(&tls_goroutines, &key);
		n = (s64)result(regs);
		goto done;
	}
	sp = regs->sp + (cookie >> TLS_DEPTH);
	if (!(cookie & TLS_LEAVES)) {
		/* what began deeper has ended, or was left by a jump */
		for (int i = 0; i < TLS_CALLS && t->depth; i++) {
			if (t->calls[(t->depth - 1) & (TLS_CALLS - 1)].sp > sp)
				break;
			t->depth--;
		}
		if (t->depth >= TLS_CALLS)
			t->depth = 0;
		call = &t->calls[t->depth++ & (TLS_CALLS - 1)];
		call->sp = sp;
		call->ssl = arg_1(regs);
		call->base = arg_2(regs);
		call->length = arg_4(regs);
		t->sent.inside = 0;
		t->received.inside = 0;
		return 0;
	}
	for (int i = 0; i < TLS_CALLS && t->depth; i++) {
		if (t->calls[(t->depth - 1) & (TLS_CALLS - 1)].sp >= sp)
			break;
		t->depth--;
	}
	if (!t->depth)
		return 0;
	call = &t->calls[(t->depth - 1) & (TLS_CALLS - 1)];
	if (call->sp != sp)
		return 0;
	t->depth--;
	n = (s32)result(regs);
	if (n > 0 && (cookie & TLS_EX) && bpf_probe_read_user(&n, sizeof(n), (void *)call->length))
		return 0;
done:
	if (n > 0 && n < (1LL << 31))
		tls_plain(t, call, n, sending, cookie & TLS_GO ? 1 : 0);
	return 0;
}
