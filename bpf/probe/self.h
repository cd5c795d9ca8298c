/* SPDX-License-Identifier: MIT */
/* What the probe says of itself each tick: how full its tables are, every drop and refusal, its memory and CPU time. */
#ifndef COROOT_SELF_H
#define COROOT_SELF_H

#include "load.h"
#include "../include/shared.h"

#include <stdint.h>

struct figures {
	uint64_t edges, rows, connections, evicted, read_errors, skipped, built, timings, lookups;
};

void self_send(const struct kernel *k, const struct control *ctl, const struct figures *f);

#endif
