/* SPDX-License-Identifier: MIT */
/*
 * Loads and attaches the programs, each its own unit: what the kernel refuses is reported with its errno and the
 * verifier's last words, and the rest runs without it.
 */
#ifndef COROOT_LOAD_H
#define COROOT_LOAD_H

struct kernel {
	int controls, edges, folded, rows, listeners, events, conns, scratches, zero_row, lookups, names, timings, syncs;
	struct bpf_link *connections; /* iterator over connections, NULL where refused */
	struct bpf_link *files; /* iterator over open files, NULL where refused */
	int programs; /* how many run */
	int program_fds[16];
};

/* Writes one capability frame per feature. Returns how many programs run; 0 means that nothing can be observed. */
int load(struct kernel *kernel);
/* Runs of programs that the kernel left out, since one of the same program was interrupted: each is an event not counted. */
unsigned long long runs_missed(const struct kernel *kernel);
/* Runs an iterator to its end. 0, or -errno. */
int iterate(struct bpf_link *link);

#endif
