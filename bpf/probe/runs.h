/* SPDX-License-Identifier: MIT */
/*
 * How often the programs run and how long, by the kernel's own counting (BPF_ENABLE_STATS). That costs each run of any
 * program two readings of a clock, so it is on for one tick in RUNS_EVERY only, and the sums are of those ticks.
 */
#ifndef COROOT_RUNS_H
#define COROOT_RUNS_H

#include <bpf/libbpf.h>
#include <stdint.h>

#define RUNS_EVERY 30

void runs_start(struct bpf_object *object);
/* A program that is loaded later. */
void runs_add(int fd, const char *name);
/* Begins and ends a measurement when it is time. */
void runs_tick(uint64_t mono_ns);
/* Calls `say` with the figures: time measured, and runs and their time by program. */
void runs_say(void (*say)(const char *name, uint64_t value));

#endif
