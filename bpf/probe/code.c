/* SPDX-License-Identifier: MIT */
#include "code.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CODE (64 * 1024)

#if defined(__aarch64__)

size_t instruction_length(const uint8_t *code, size_t left)
{
	(void)code;
	return left < 4 ? 0 : 4;
}

/* Returns are all alike and stepped over in hardware time; the entry is taken as it is. */
size_t places_of(const uint8_t *code, size_t size, int returns, struct place places[MAX_PLACES], const char **why)
{
	size_t n = 0;

	memset(places, 0, sizeof(*places) * MAX_PLACES);
	places[n++].slow = 1;
	if (!returns)
		return n;
	for (size_t at = 0; at + 4 <= size; at += 4) {
		uint32_t word;

		memcpy(&word, code + at, 4);
		if (word != 0xd65f03c0)
			continue;
		if (n == MAX_PLACES) {
			*why = "too many returns";
			return 0;
		}
		places[n++] = (struct place){ .offset = at, .leaves = 1, .slow = 1 };
	}
	if (n == 1) {
		*why = "no return";
		return 0;
	}
	return n;
}

#else

/* What follows the opcode: a ModRM byte, immediates of 1, 2, 4 (2 after a 66) or by REX.W; or not an instruction. */
enum { M = 1, I1 = 2, I2 = 4, I4 = 8, IW = 16, X = 32, GROUP = 64, OFF8 = 128 };

static const uint8_t one[256] = {
#define ALU M, M, M, M, I1, I4
	ALU, X, X, ALU, X, 0, ALU, X, X, ALU, X, X, /* 00 */
	ALU, 0, X, ALU, 0, X, ALU, 0, X, ALU, 0, X, /* 20 */
#undef ALU
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 40 */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 50 */
	X, X, X, M, 0, 0, 0, 0, I4, M | I4, I1, M | I1, 0, 0, 0, 0, /* 60 */
	I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, /* 70 */
	M | I1, M | I4, X, M | I1, M, M, M, M, M, M, M, M, M, M, M, M, /* 80 */
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, X, 0, 0, 0, 0, 0, /* 90 */
	OFF8, OFF8, OFF8, OFF8, 0, 0, 0, 0, I1, I4, 0, 0, 0, 0, 0, 0, /* a0 */
	I1, I1, I1, I1, I1, I1, I1, I1, IW, IW, IW, IW, IW, IW, IW, IW, /* b0 */
	M | I1, M | I1, I2, 0, X, X, M | I1, M | I4, I2 | I1, 0, I2, 0, 0, I1, X, 0, /* c0 */
	M, M, M, M, X, X, X, 0, M, M, M, M, M, M, M, M, /* d0 */
	I1, I1, I1, I1, I1, I1, I1, I1, I4, I4, X, I1, 0, 0, 0, 0, /* e0 */
	0, 0, 0, 0, 0, 0, M | GROUP | I1, M | GROUP | I4, 0, 0, 0, 0, 0, 0, M, M, /* f0 */
};

static const uint8_t two[256] = {
	M, M, M, M, X, 0, 0, 0, 0, 0, X, 0, X, M, X, X, /* 00 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* 10 */
	M, M, M, M, X, X, X, X, M, M, M, M, M, M, M, M, /* 20 */
	0, 0, 0, 0, 0, 0, X, X, X, X, X, X, X, X, X, X, /* 30 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* 40 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* 50 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* 60 */
	M | I1, M | I1, M | I1, M | I1, M, M, M, 0, M, M, X, X, M, M, M, M, /* 70 */
	I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, I4, /* 80 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* 90 */
	0, 0, 0, M, M | I1, M, X, X, 0, 0, 0, M, M | I1, M, M, M, /* a0 */
	M, M, M, M, M, M, M, M, M, M, M | I1, M, M, M, M, M, /* b0 */
	M, M, M | I1, M, M | I1, M | I1, M | I1, M, 0, 0, 0, 0, 0, 0, 0, 0, /* c0 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* d0 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* e0 */
	M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, /* f0 */
};

/* Bytes from a ModRM byte to the end of its address, 0 where they are cut. */
static size_t address_length(const uint8_t *p, size_t left)
{
	uint8_t mod, rm;
	size_t n = 1;

	if (!left)
		return 0;
	mod = p[0] >> 6;
	rm = p[0] & 7;
	if (mod == 3)
		return 1;
	if (rm == 4) {
		if (left < 2)
			return 0;
		n++;
		if (mod == 0 && (p[1] & 7) == 5)
			n += 4;
	} else if (mod == 0 && rm == 5) {
		n += 4;
	}
	if (mod == 1)
		n += 1;
	else if (mod == 2)
		n += 4;
	return n <= left ? n : 0;
}

size_t instruction_length(const uint8_t *code, size_t left)
{
	size_t at = 0, more;
	int small = 0, wide = 0;
	uint8_t what, map = 1;

	for (; at < left && at < 14; at++) {
		uint8_t b = code[at];

		if (b == 0x66)
			small = 1;
		else if (b == 0x67)
			return 0;
		else if (b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 && b != 0x64 && b != 0x65 && b != 0xf0 &&
			 b != 0xf2 && b != 0xf3)
			break;
	}
	if (at < left && (code[at] & 0xf0) == 0x40) {
		wide = code[at] & 8;
		at++;
	}
	if (at >= left)
		return 0;
	if (code[at] == 0xc5 || code[at] == 0xc4 || code[at] == 0x62) {
		/* VEX and EVEX: the map is in the prefix */
		size_t prefix = code[at] == 0xc5 ? 2 : code[at] == 0xc4 ? 3 : 4;

		if (left - at < prefix + 2)
			return 0;
		if (prefix > 2)
			map = code[at + 1] & (prefix == 3 ? 31 : 7);
		at += prefix;
		what = map == 1 ? (two[code[at]] & (I1 | X)) | (code[at] == 0x77 ? 0 : M) : map == 2 ? M : map == 3 ? M | I1 : X;
		at++;
	} else if (code[at] == 0x0f) {
		if (left - at < 2)
			return 0;
		at++;
		if (code[at] == 0x38 || code[at] == 0x3a) {
			what = code[at] == 0x38 ? M : M | I1;
			at += 2;
		} else {
			what = two[code[at++]];
		}
		/* jumps have 4 bytes whatever the prefix */
		small = 0;
	} else {
		uint8_t opcode = code[at++];

		what = one[opcode];
		if (opcode == 0xe8 || opcode == 0xe9)
			small = 0;
	}
	if (what & X || at > left)
		return 0;
	if (what & GROUP) {
		/* test has an immediate, its neighbours of the group have none */
		if (at >= left)
			return 0;
		if ((code[at] >> 3 & 7) > 1)
			what = M;
	}
	if (what & M) {
		more = address_length(code + at, left - at);
		if (!more)
			return 0;
		at += more;
	}
	if (what & I1)
		at += 1;
	if (what & I2)
		at += 2;
	if (what & I4)
		at += small ? 2 : 4;
	if (what & IW)
		at += wide ? 8 : small ? 2 : 4;
	if (what & OFF8)
		at += 8;
	return at <= left && at <= 15 ? at : 0;
}

static int is_return(const uint8_t *p)
{
	return p[0] == 0xc3 || p[0] == 0xc2 || (p[0] == 0xf3 && p[1] == 0xc3) || (p[0] == 0xf2 && p[1] == 0xc3);
}

static int is_condition(const uint8_t *p)
{
	return (p[0] & 0xf0) == 0x70 || (p[0] == 0x0f && (p[1] & 0xf0) == 0x80);
}

static int is_push(const uint8_t *p)
{
	return (p[0] & 0xf8) == 0x50 || (p[0] == 0x41 && (p[1] & 0xf8) == 0x50);
}

/* Where a relative jump goes, from the function's start; -1 for what is none. */
static int64_t target_of(const uint8_t *code, size_t at, size_t length)
{
	const uint8_t *p = code + at;
	int32_t by;

	if ((p[0] & 0xf0) == 0x70 || p[0] == 0xeb || (p[0] >= 0xe0 && p[0] <= 0xe3))
		return (int64_t)(at + length) + (int8_t)p[1];
	if (p[0] == 0xe9)
		memcpy(&by, p + 1, 4);
	else if (p[0] == 0x0f && (p[1] & 0xf0) == 0x80)
		memcpy(&by, p + 2, 4);
	else
		return -1;
	return (int64_t)(at + length) + by;
}

struct code {
	const uint8_t *bytes;
	size_t size;
	uint32_t *at; /* starts of instructions, and the end behind the last */
	size_t count;
	uint8_t *entered; /* by offset: a jump goes there */
};

/* Grows or shrinks the stack by how much; 0 where it does not, -1 where it is something else that we do not follow. */
static int stack_by(const uint8_t *p, size_t length, int down)
{
	uint8_t digit = down ? 0xec : 0xc4;
	int32_t by;

	if (length == 4 && p[0] == 0x48 && p[1] == 0x83 && p[2] == digit && p[3] < 0x80)
		return p[3];
	if (length == 7 && p[0] == 0x48 && p[1] == 0x81 && p[2] == digit) {
		memcpy(&by, p + 3, 4);
		return by > 0 && by < 1 << 16 ? by : -1;
	}
	return -1;
}

/* Leaves the arguments, the result and the stack as they are: the stack guard's moves and clearing of registers. */
static int is_harmless(const uint8_t *p, size_t length, int leaving)
{
	if (length == 4 && p[0] == 0xf3 && p[1] == 0x0f && p[2] == 0x1e && p[3] == 0xfa)
		return 1;
	if (leaving) {
		/* xor of a register with itself, but not of the result */
		if (length == 2 && p[0] == 0x31 && p[1] >= 0xc0)
			return (p[1] & 7) != 0 && (p[1] & 7) == (p[1] >> 3 & 7);
		return length == 3 && p[0] == 0x45 && p[1] == 0x31 && p[2] >= 0xc0;
	}
	/* Go's look at how much stack is left */
	if (length == 4 && (memcmp(p, "\x49\x3b\x66\x10", 4) == 0 || memcmp(p, "\x4d\x3b\x66\x10", 4) == 0))
		return 1;
	if ((length == 5 && memcmp(p, "\x4c\x8d\x64\x24", 4) == 0) || (length == 8 && memcmp(p, "\x4c\x8d\xa4\x24", 4) == 0))
		return 1;
	if (length == 9 && memcmp(p, "\x64\x48\x8b\x04\x25", 5) == 0)
		return 1;
	if ((length == 5 && memcmp(p, "\x48\x89\x44\x24", 4) == 0) || (length == 8 && memcmp(p, "\x48\x89\x84\x24", 4) == 0))
		return 1;
	if (length == 2 && (p[0] == 0x31 || p[0] == 0x33) && p[1] == 0xc0)
		return 1;
	return (length == 2 && p[0] == 0x85 && p[1] >= 0xc0) || (length == 3 && p[0] == 0x48 && p[1] == 0x85 && p[2] >= 0xc0);
}

static struct place entry_of(const struct code *code)
{
	struct place place = { .slow = 1 };
	uint32_t depth = 0;

	for (size_t i = 0; i < code->count && i < 12; i++) {
		const uint8_t *p = code->bytes + code->at[i];
		size_t length = code->at[i + 1] - code->at[i];
		int by;

		/* a loop would pass here again */
		if (i && code->entered[code->at[i]])
			break;
		/* not a call: the kernel's emulation may not know of a shadow stack */
		if ((is_push(p) && length <= 2) || is_condition(p)) {
			place.offset = code->at[i];
			place.depth = depth;
			place.slow = 0;
			return place;
		}
		by = stack_by(p, length, 1);
		if (by >= 0)
			depth += by;
		else if (!is_harmless(p, length, 0))
			break;
	}
	return place;
}

/* The guard of the stack before a return: a jump that is never taken, but for the sake of a call that never returns. */
static int is_guard(const struct code *code, size_t i)
{
	int64_t to = target_of(code->bytes, code->at[i], code->at[i + 1] - code->at[i]);

	if (to <= (int64_t)code->at[i] || to >= (int64_t)code->size)
		return 0;
	for (; i < code->count; i++) {
		const uint8_t *next;

		if (code->at[i] != to)
			continue;
		if (code->bytes[to] != 0xe8 && !(code->bytes[to] == 0xff && (code->bytes[to + 1] & 0x38) == 0x10))
			return 0;
		next = code->bytes + code->at[i + 1];
		return i + 1 == code->count || next[0] == 0x90 || next[0] == 0x66 || (next[0] == 0x0f && next[1] == 0x1f);
	}
	return 0;
}

static struct place return_of(const struct code *code, size_t last)
{
	struct place place = { .offset = code->at[last], .leaves = 1, .slow = 1 };
	uint32_t depth = 0;

	for (size_t i = last; i > 0 && last - i < 24; i--) {
		const uint8_t *p = code->bytes + code->at[i - 1];
		size_t length = code->at[i] - code->at[i - 1];
		int by;

		/* whoever jumps in between does not pass what is before */
		if (code->entered[code->at[i]])
			break;
		if (is_condition(p)) {
			if (is_guard(code, i - 1)) {
				place.offset = code->at[i - 1];
				place.depth = depth;
				place.slow = 0;
			}
			break;
		}
		by = stack_by(p, length, 0);
		if (by >= 0)
			depth += by;
		else if ((length == 1 && p[0] > 0x58 && p[0] <= 0x5f) || (length == 2 && p[0] == 0x41 && (p[1] & 0xf8) == 0x58))
			depth += 8;
		else if (!is_harmless(p, length, 1))
			break;
	}
	return place;
}

size_t places_of(const uint8_t *code, size_t size, int returns, struct place places[MAX_PLACES], const char **why)
{
	struct code all = { .bytes = code, .size = size };
	size_t n = 0, at = 0;

	*why = "its code is not understood";
	if (!size || size > MAX_CODE)
		return 0;
	all.at = calloc(size + 1, sizeof(*all.at));
	all.entered = calloc(size, 1);
	if (!all.at || !all.entered)
		goto out;
	while (at < size) {
		size_t length = instruction_length(code + at, size - at);
		int64_t to;

		if (!length)
			goto out;
		to = target_of(code, at, length);
		if (to >= 0 && to < (int64_t)size)
			all.entered[to] = 1;
		/* the function goes on in another: its returns are not here */
		if (returns && code[at] == 0xe9 && (to < 0 || to >= (int64_t)size)) {
			*why = "it ends with a jump";
			goto out;
		}
		all.at[all.count++] = at;
		at += length;
	}
	all.at[all.count] = size;
	places[n++] = entry_of(&all);
	if (!returns)
		goto out;
	for (size_t i = 0; i < all.count; i++) {
		struct place place;

		if (!is_return(code + all.at[i]) || (size - all.at[i] < 2 && code[all.at[i]] != 0xc3))
			continue;
		place = return_of(&all, i);
		/* several returns may share one */
		if (places[n - 1].leaves && places[n - 1].offset == place.offset)
			continue;
		if (n == MAX_PLACES) {
			*why = "too many returns";
			n = 0;
			goto out;
		}
		places[n++] = place;
	}
	if (n == 1) {
		*why = "no return in its code";
		n = 0;
	}
out:
	free(all.at);
	free(all.entered);
	return n;
}

#endif
