/* SPDX-License-Identifier: MIT */
/* Process events: from the kernel's ring into memory, from there into a frame at the tick. Both bounds count what they drop. */
#ifndef COROOT_EVENTS_H
#define COROOT_EVENTS_H

#include <stdint.h>

/* 0, or -errno. */
int events_start(int map);
/* Readable when the ring is filling up between ticks. */
int events_fd(void);
/* Moves events out of the ring into memory. */
void events_take(void);
void events_send(void);
/* Events dropped because a reader paused for long. */
uint64_t events_lost(void);

#endif
