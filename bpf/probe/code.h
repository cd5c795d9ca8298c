/* SPDX-License-Identifier: MIT */
/*
 * Where to stop a function at its entry and at each of its returns, found in its machine code. A place is always the
 * first byte of an instruction. The kernel emulates pushes and jumps in a tenth of the time that it takes to step
 * over others on virtual machines, so such a place is taken where it says the same: one that every call passes with its
 * arguments untouched, or that every return passes with its result.
 */
#ifndef COROOT_CODE_H
#define COROOT_CODE_H

#include <stddef.h>
#include <stdint.h>

#define MAX_PLACES 48

struct place {
	uint32_t offset; /* from the function's start */
	uint32_t depth; /* how far the stack pointer is below that at entry */
	uint8_t leaves;
	uint8_t slow; /* stepped over, not emulated */
};

/* Bytes of the x86-64 instruction at `code`, 0 where it is not one that we know. */
size_t instruction_length(const uint8_t *code, size_t left);
/*
 * Places of a whole function, an entry first, and alone where returns are not asked for. How many, or 0 with *why set:
 * code that is not understood to its end, or has no return, or too many, or goes on elsewhere.
 */
size_t places_of(const uint8_t *code, size_t size, int returns, struct place places[MAX_PLACES], const char **why);

#endif
