/* SPDX-License-Identifier: MIT */
/* A small open-addressing map from a non-zero 64-bit key to a pointer; grows, and shrinks when it empties. */
#ifndef COROOT_TABLE_H
#define COROOT_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct slot {
	uint64_t key;
	void *value;
};

struct table {
	struct slot *slots;
	size_t capacity;
	size_t used;
};

void *table_get(const struct table *table, uint64_t key);
void table_put(struct table *table, uint64_t key, void *value);
void *table_remove(struct table *table, uint64_t key);

#endif
