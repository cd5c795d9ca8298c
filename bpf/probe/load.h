/* SPDX-License-Identifier: MIT */
/*
 * Loads and attaches the programs, each its own unit: what the kernel refuses is reported with its errno and the
 * verifier's last words, and the rest runs without it.
 */
#ifndef COROOT_LOAD_H
#define COROOT_LOAD_H

#include <stddef.h>

struct kernel {
	int controls, edges, folded, rows, listeners, mounts, events, conns, h2s, scratches, zero_row, lookups, names, timings, syncs, spans, slow_limits, span_threads;
	int tls_processes, tls_sessions, tls_sockets, tls_threads, tls_goroutines, tls_h2s;
	int tls; /* the program for TLS libraries, -1 until load_tls */
	struct bpf_object *object;
	struct bpf_link *connections; /* iterator over connections, NULL where refused */
	struct bpf_link *files; /* iterator over open files, NULL where refused */
	int sockets; /* connections by address, of use where the hooks are system calls */
	int programs; /* how many run */
	int program_fds[16];
	unsigned load_us; /* CPU time that loading took */
};

/*
 * How sends and receives are seen: by the sockets' own tracepoints where the kernel has them, else at the end of system
 * calls; or by the latter in any case.
 */
enum hooks { HOOKS_BEST = 0, HOOKS_CALLS = 1 };

/* Writes one capability frame per feature. Returns how many programs run; 0 means that nothing can be observed. */
struct span_options;
int load(struct kernel *kernel, enum hooks hooks, const struct span_options *spans);
/* Loads the program for TLS libraries, which only some machines need. 0, or -errno with the reason. */
int load_tls(struct kernel *kernel, char *reason, size_t size);
/* Runs of programs that the kernel left out, since one of the same program was interrupted: each is an event not counted. */
unsigned long long runs_missed(const struct kernel *kernel);
/* Prints what each program costs the verifier, loaded alone, and what loading all of them costs. An exit status. */
int load_explain(enum hooks hooks);
/* Runs an iterator to its end. 0, or -errno. */
int iterate(struct bpf_link *link);

#endif
