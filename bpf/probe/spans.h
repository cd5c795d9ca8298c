/* SPDX-License-Identifier: MIT */
/* Heads of requests: a frame at each tick; and what the agent says of them. */
#ifndef COROOT_SPANS_H
#define COROOT_SPANS_H

#include "load.h"
#include "ring.h"
#include "../include/shared.h"

struct span_options {
	int off;
	unsigned shift; /* one of 2^shift requests is sampled */
	unsigned budget[SPAN_CLASSES]; /* in a second */
	double slow_ms;
};

extern struct ring span_ring;
/* 0, or -errno. */
int spans_start(const struct kernel *kernel, struct control *control, const struct span_options *options);
void spans_send(void);
/* Bytes of the agent's commands, in pieces of any size: lines "slow EDGE MICROSECONDS", where 0 takes the threshold back. */
void spans_command(const char *bytes, size_t size);
/* The edge is no more. */
void spans_forget(uint32_t edge);

#endif
