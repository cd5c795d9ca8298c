/* SPDX-License-Identifier: MIT */
/* Heads of DNS answers: a frame at each tick. */
#ifndef COROOT_NAMES_H
#define COROOT_NAMES_H

#include "ring.h"
#include "../include/shared.h"

extern struct ring name_ring;
/* Adds a question that was never answered. */
void names_unanswered(const struct lookup *lookup, uint64_t mono_ns);
void names_send(void);

#endif
