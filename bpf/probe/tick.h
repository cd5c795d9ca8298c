/* SPDX-License-Identifier: MIT */
/*
 * One tick: reads the kernel's counters, compares them with what was sent before and writes the increases as frames.
 * Counters in the kernel only grow and are never reset under a writer, so a tick that is left out or a pause of the
 * reader loses nothing. Edges without traffic and connections are evicted after minutes, in two phases (see evict).
 */
#ifndef COROOT_TICK_H
#define COROOT_TICK_H

#include "load.h"

#include <stdint.h>

/* `idle`: ticks without traffic or connections after which an edge is evicted. 0, or -errno when maps cannot be read. */
int tick_start(struct kernel *kernel, uint32_t idle, uint32_t patience, const struct span_options *spans);
/* Looks for connections that are older than the probe or were missed. */
void tick_files(void);
/* Builds the frames of one tick. */
void tick_build(uint64_t tick, uint64_t mono_ns);
void tick_skipped(void);

#endif
