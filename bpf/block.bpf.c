/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Disks: one run per request that a block device has completed, and two per fsync. Files, pipes and the page cache never
 * come here. A request counts for the cgroup that it is done for, also where the kernel writes later; its time begins when
 * it was made, so that waiting in a queue is in it. Devices that pass requests on (LVM, RAID) show by those below them.
 */
enum { REQ_OP_READ = 0, REQ_OP_WRITE = 1, REQ_OP_FLUSH = 2, REQ_OP_DISCARD = 3, REQ_OP_MASK = 0xff };

/* `what` has flags above the kind. Global, so that the verifier looks at it once. */
__noinline int timed(u64 owner, u32 device, u32 what, u64 ns, u64 bytes)
{
	struct timing_key key = { .owner = owner, .device = device, .what = what & 7 };
	struct timing *t = bpf_map_lookup_elem(&timings, &key);
	u32 zero = 0, bucket;

	if (!t) {
		struct timing *empty = bpf_map_lookup_elem(&zero_timing, &zero);

		if (!empty)
			return 0;
		if (bpf_map_update_elem(&timings, &key, empty, BPF_NOEXIST) == -E2BIG) {
			count(timing_full);
			key.owner = 0;
			bpf_map_update_elem(&timings, &key, empty, BPF_NOEXIST);
		}
		t = bpf_map_lookup_elem(&timings, &key);
		if (!t) {
			count(timing_lost);
			return 0;
		}
	}
	__sync_fetch_and_add(&t->bytes, bytes);
	if (what & TIMING_PART)
		return 0;
	if (what & TIMING_FAILED)
		__sync_fetch_and_add(&t->errors, 1);
	__sync_fetch_and_add(&t->sum_ns, ns);
	bucket = bucket_of(ns);
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&t->hist[bucket], 1);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_done, struct request *rq, int error, unsigned int bytes)
{
	u32 op = rq->cmd_flags & REQ_OP_MASK;
	struct gendisk *disk = rq->q->disk;
	u64 started = rq->start_time_ns, now, owner = 0;
	struct bio *bio = rq->bio;

	if (op > REQ_OP_DISCARD || !disk)
		return 0;
	if (bio)
		owner = BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup, kn, id);
	now = bpf_ktime_get_ns();
	timed(owner, disk->major << 20 | disk->first_minor,
	      op | ((u8)error ? TIMING_FAILED : 0) | (bytes < rq->__data_len ? TIMING_PART : 0),
	      started && now > started ? now - started : 0, bytes);
	return 0;
}

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(sync_start, struct file *file, int datasync)
{
	u64 thread = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();

	if (bpf_map_update_elem(&syncs, &thread, &now, BPF_ANY))
		count(timing_lost);
	return 0;
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(sync_done, struct inode *inode, int result)
{
	u64 thread = bpf_get_current_pid_tgid(), *started = bpf_map_lookup_elem(&syncs, &thread);

	if (!started)
		return 0;
	timed(thread >> 32, inode->i_sb->s_dev, TIMING_SYNC | (result ? TIMING_FAILED : 0), bpf_ktime_get_ns() - *started, 0);
	bpf_map_delete_elem(&syncs, &thread);
	return 0;
}
