/* SPDX-License-Identifier: MIT */
/* Heads of DNS answers: from the kernel's ring into memory, from there into a frame at the tick. */
#ifndef COROOT_NAMES_H
#define COROOT_NAMES_H

#include "../include/shared.h"

#include <stdint.h>

/* 0, or -errno. */
int names_start(int map);
/* Readable when the ring is filling up between ticks. */
int names_fd(void);
/* Moves heads out of the ring into memory. */
void names_take(void);
/* Adds a question that was never answered. */
void names_unanswered(const struct lookup *lookup, uint64_t mono_ns);
void names_send(void);
/* Heads dropped because a reader paused for long. */
uint64_t names_lost(void);

#endif
