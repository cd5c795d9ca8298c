/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Redis chunks of the usual shape at one read and without the walker: what most of the traffic is. */
#ifndef COROOT_REDIS_SIMPLE_H
#define COROOT_REDIS_SIMPLE_H

/*
 * "<digits>\r" in the eight bytes at p, without a branch per digit. Returns how many digits there are, 0 for none.
 * Digits are moved to the high bytes (the low ones then read as zeros) and added up in pairs, fours, eights.
 */
static __always_inline u32 resp_digits(const u8 *p, u64 *value)
{
	u64 w = *(const u64 *)p;
	u64 z = zero_bytes(w ^ (ONES * '\r'));
	u32 k = (((z & -z) >> 7) * 0x0001020304050607ULL) >> 56;
	u32 shift = (64 - 8 * k) & 63;

	if (!k)
		return 0;
	w = (w << shift) - ((ONES * '0') << shift);
	if ((w | (w + ONES * 118)) & HIGHS)
		return 0;
	w = w * 10 + (w >> 8);
	*value = ((w & 0x000000ff000000ffULL) * 0x000f424000000064ULL +
		  ((w >> 16) & 0x000000ff000000ffULL) * 0x0000271000000001ULL) >> 32;
	return k;
}

/* Reads a chunk of one segment as a whole; its length, or 0 where it is none or too long. */
static __always_inline u32 resp_whole(struct scratch *s)
{
	u32 n = s->left;

	if (s->blind || s->segment < n || n < 4 || n > BUFFER - 8)
		return 0;
	asm volatile("%0 &= 0x3ff" : "+r"(n));
	if (bpf_probe_read_user(s->buf, n, (void *)s->base)) {
		count(fault);
		return 0;
	}
	return n;
}

/*
 * The usual chunk at one read and without state: whole commands of no special kind, or whole replies of one status.
 * 1: taken; 0: needs the walker, and nothing has been counted. Position and what is needed go through memory at each
 * turn: the verifier forgets their values there, and so looks at one turn for all.
 */
__noinline int resp_simple_requests(struct scratch *s, struct conn *c)
{
	u32 n, i;

	if (!s || !c)
		return 0;
	n = resp_whole(s);
	if (!n)
		return 0;
	s->pos = s->len = s->count = 0;
	for (i = 0; i < 40; i++) {
		u32 pos, need, digits;
		u64 value;
		u8 type;

		asm volatile("" ::: "memory");
		pos = s->pos & (BUFFER - 1);
		need = s->len;
		type = s->buf[pos];
		digits = resp_digits(s->buf + pos + 1, &value);
		if (!digits || type != (need ? '$' : '*'))
			return 0;
		pos += digits + 3;
		if (!need) {
			if (value == 0)
				return 0;
			s->len = value;
			s->pos = pos;
			/* the command's name follows the next header */
			s->size = 1;
			continue;
		}
		if (s->size) {
			if (resp_command(s->buf + (pos & (BUFFER - 1)), value))
				return 0;
			s->size = 0;
		}
		s->pos = pos + value + 2;
		s->len = --need;
		if (!need)
			s->count++;
		if (s->pos >= n)
			break;
	}
	if (s->pos != n || s->len)
		return 0;
	n = s->count;
	s->count = 0;
	s->good = n;
	push_n(c, s->stamp, KIND_PLAIN, n);
	return 1;
}

__noinline int resp_simple_replies(struct scratch *s, struct conn *c)
{
	u32 n, i;

	if (!s || !c)
		return 0;
	n = resp_whole(s);
	if (!n)
		return 0;
	s->pos = s->len = s->count = 0;
	s->status = STATUS_OK;
	for (i = 0; i < 40; i++) {
		u32 pos, need, digits;
		u64 value;
		u8 type;

		asm volatile("" ::: "memory");
		pos = s->pos & (BUFFER - 1);
		need = s->len;
		type = s->buf[pos];
		if (!need) {
			u32 status = type == '-' ? STATUS_FAILED : STATUS_OK;

			if (s->count && s->status != status)
				return 0;
			s->status = status;
			need = 1;
		}
		if (type == '+' || type == '-' || type == ':') {
			u64 z = zero_bytes(*(u64 *)(s->buf + pos + 1) ^ (ONES * '\n'));

			if (!z) {
				pos += 8;
				z = zero_bytes(*(u64 *)(s->buf + pos + 1) ^ (ONES * '\n'));
				if (!z)
					return 0;
			}
			pos += 2 + ((((z & -z) >> 7) * 0x0001020304050607ULL) >> 56);
			need--;
		} else if (*(u32 *)(s->buf + pos) == 0x0d312d24) { /* $-1\r: no such value */
			pos += 5;
			need--;
		} else if (type == '$' || type == '*') {
			digits = resp_digits(s->buf + pos + 1, &value);
			if (!digits)
				return 0;
			pos += digits + 3;
			need--;
			if (type == '$')
				pos += value + 2;
			else
				need += value;
		} else {
			return 0;
		}
		s->pos = pos;
		s->len = need;
		if (!need)
			s->count++;
		if (pos >= n)
			break;
	}
	if (s->pos != n || s->len)
		return 0;
	n = s->count;
	s->count = 0;
	s->good = n;
	c->mode = MODE_PINNED;
	settle(c, s->status, n, s->stamp);
	return 1;
}

#endif
