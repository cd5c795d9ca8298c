/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The one histogram layout (schemas/wire/histogram.ts): 4 geometric buckets per octave from 1 us, 108 in all. In units
 * of 1/1024 us the octave is the highest bit; the next eight bits, 256..511, are held against 256 * 2^(1/4, 2/4, 3/4).
 */
#ifndef COROOT_HISTOGRAM_H
#define COROOT_HISTOGRAM_H

static __always_inline u32 bucket_of(u64 ns)
{
	u64 x, v;
	u32 msb = 0, mantissa, quarter;

	if (ns < 1000)
		return 0;
	if (ns > 134217728000ULL)
		return BUCKETS - 1;
	x = ns * 128 / 125;
	v = x;
	if (v >> 32) {
		msb += 32;
		v >>= 32;
	}
	if (v >> 16) {
		msb += 16;
		v >>= 16;
	}
	if (v >> 8) {
		msb += 8;
		v >>= 8;
	}
	if (v >> 4) {
		msb += 4;
		v >>= 4;
	}
	if (v >> 2) {
		msb += 2;
		v >>= 2;
	}
	if (v >> 1)
		msb += 1;
	mantissa = x >> (msb - 8);
	quarter = (mantissa >= 305) + (mantissa >= 362) + (mantissa >= 431);
	msb = (msb - 10) * 4 + quarter;
	return msb < BUCKETS ? msb : BUCKETS - 1;
}

#endif
