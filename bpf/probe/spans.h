/* SPDX-License-Identifier: MIT */
/* Heads of requests: from the kernel's ring into memory, from there into a frame at the tick; and what the agent says of them. */
#ifndef COROOT_SPANS_H
#define COROOT_SPANS_H

#include "load.h"
#include "../include/shared.h"

#include <stddef.h>
#include <stdint.h>

struct span_options {
	int off;
	unsigned shift; /* one of 2^shift requests is sampled */
	unsigned budget[SPAN_CLASSES]; /* in a second */
	double slow_ms;
};

/* 0, or -errno. */
int spans_start(const struct kernel *kernel, struct control *control, const struct span_options *options);
int spans_fd(void);
void spans_take(void);
void spans_send(void);
/* Told ones that were dropped because a reader paused for long. */
uint64_t spans_lost(void);
/* Bytes of the agent's commands, in pieces of any size: lines "slow EDGE MICROSECONDS", where 0 takes the threshold back. */
void spans_command(const char *bytes, size_t size);
/* The edge is no more. */
void spans_forget(uint32_t edge);

#endif
