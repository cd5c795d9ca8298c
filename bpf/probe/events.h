/* SPDX-License-Identifier: MIT */
/* Process events: a frame at each tick. */
#ifndef COROOT_EVENTS_H
#define COROOT_EVENTS_H

#include "ring.h"

extern struct ring event_ring;
void events_send(void);

#endif
