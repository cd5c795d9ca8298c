/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Processes that begin, end and are killed for memory: one record each in a ring; what does not fit is counted. */
static __always_inline struct event *new_event(u32 kind, struct task_struct *task)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(event_lost);
		return NULL;
	}
	e->mono_ns = bpf_ktime_get_ns();
	e->kind = kind;
	e->pid = task->tgid;
	e->ppid = 0;
	e->code = 0;
	e->rss = 0;
	e->anon = 0;
	e->shmem = 0;
	e->cgroup = 0;
	e->memory_cgroup = 0;
	e->filename[0] = 0;
	bpf_probe_read_kernel(e->comm, sizeof(e->comm), task->comm);
	return e;
}

/* The loader reads the ring each second; a ring that fills sooner wakes it. */
static __always_inline void submit(struct event *e)
{
	bool full = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > EVENT_RING / 2;

	bpf_ringbuf_submit(e, full ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

static __always_inline u64 memory_cgroup(struct task_struct *task)
{
	u64 at = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct css_set *set = task->cgroups;
	struct cgroup_subsys_state *css = NULL;

	bpf_probe_read_kernel(&css, sizeof(css), (void *)&set->subsys[0] + at * sizeof(void *));
	return css ? BPF_CORE_READ(css, cgroup, kn, id) : 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, pid_t old, struct linux_binprm *bprm)
{
	struct event *e = new_event(EVENT_EXEC, task);

	if (!e)
		return 0;
	e->ppid = task->real_parent->tgid;
	e->cgroup = bpf_get_current_cgroup_id();
	e->memory_cgroup = memory_cgroup(task);
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), bprm->filename);
	submit(e);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	struct event *e;

	/* the last thread takes the process with it */
	if (task->signal->live.counter)
		return 0;
	e = new_event(EVENT_EXIT, task);
	if (!e)
		return 0;
	e->ppid = task->real_parent->tgid;
	e->code = task->signal->group_exit_code;
	submit(e);
	return 0;
}

SEC("tp_btf/mark_victim")
int BPF_PROG(oom_victim, struct task_struct *task)
{
	struct event *e = new_event(EVENT_OOM, task);
	struct mm_struct *mm = task->mm;
	s64 pages = 0;

	if (!e)
		return 0;
	if (mm) {
		s64 file = mm->rss_stat[0].count, anon = mm->rss_stat[1].count, shmem = mm->rss_stat[3].count;

		e->anon = anon > 0 ? anon : 0;
		e->shmem = shmem > 0 ? shmem : 0;
		pages = (file > 0 ? file : 0) + e->anon + e->shmem;
	}
	/* in pages: the loader knows their size */
	e->rss = pages;
	submit(e);
	return 0;
}
