/* SPDX-License-Identifier: MIT */
/* Requests of disks and fsync: what their counters have grown by, as frames at the tick. Idle ones are forgotten. */
#ifndef COROOT_TIMING_H
#define COROOT_TIMING_H

#include <stdint.h>

/* `map` is the kernel's `timings`. Returns how many there are; adds one to `errors` where they cannot be read. */
uint64_t timing_send(int map, uint64_t *errors);

#endif
