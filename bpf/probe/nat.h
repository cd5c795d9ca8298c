/* SPDX-License-Identifier: MIT */
/*
 * Where connections really go: asks the connection tracking of the kernel (ctnetlink) for one connection of an edge, in the
 * client's network namespace and in that of the machine. One question for each new edge and then at most one in NAT_EVERY
 * ticks, so that the cost follows edges and not the size of the table. Nothing is asked where no tracking is loaded.
 */
#ifndef COROOT_NAT_H
#define COROOT_NAT_H

#include <stdint.h>

#define NAT_EVERY 10

/* Addresses of 16 bytes, IPv4 mapped. */
struct nat_question {
	uint32_t edge;
	uint32_t netns;
	uint32_t tgid; /* a process in that namespace */
	uint16_t client_port;
	uint16_t port;
	uint8_t client[16];
	uint8_t dialled[16];
};

struct nat_figures {
	uint64_t asked, translated, failed, dropped;
};

/* Says in a capability frame whether it can ask. */
void nat_start(void);
/* 1: it will be asked. 0: there is nobody to ask, or too many wait. */
int nat_ask(const struct nat_question *question);
/* Asks what waits; `tell` hears of each connection that is tracked, with what was dialled where nothing is translated. */
void nat_tick(void (*tell)(uint32_t edge, const uint8_t *ip, uint16_t port));
struct nat_figures nat_figures(void);

#endif
