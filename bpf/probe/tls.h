/* SPDX-License-Identifier: MIT */
/*
 * Which processes' TLS is read. A process is looked at once the kernel has seen it speak TLS and it is old enough: its
 * TLS library (or itself, where it carries one) is found among its mappings, and hooked once per file for all processes;
 * process by process from the moment that one of them does not want it or is over its budget. What is not read is listed
 * with the reason.
 */
#ifndef COROOT_TLS_LOADER_H
#define COROOT_TLS_LOADER_H

#include "load.h"

#include <stdint.h>

struct tls_options {
	int off;
	uint32_t delay; /* seconds of age */
	uint32_t budget; /* of a process's CPU time, in thousandths; 0 is none */
};

/* Prints where a file would be hooked: offset, function, place, and how far the stack is below that at entry. */
int tls_explain(const char *path);
/* Hooks the same places with a program that does nothing, until standard input closes: what the traps alone cost. */
int tls_empty(const char *path);
void tls_start(struct kernel *kernel, const struct tls_options *options);
/* Looks at new and at ended processes, opens and closes hooks; `tick` is the current one of the kernel side. */
void tls_tick(uint32_t tick);
/* One frame with all processes that speak TLS, where something about them has changed. */
void tls_send(void);

struct tls_figures {
	uint64_t processes, read, files, links, traps, slow_traps, trap_ns, slow_trap_ns, refused;
};
struct tls_figures tls_figures(void);

#endif
