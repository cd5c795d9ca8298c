/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>

static size_t home(const struct table *table, uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15ULL) >> 20) & (table->capacity - 1);
}

void *table_get(const struct table *table, uint64_t key)
{
	if (!table->capacity)
		return NULL;
	for (size_t i = home(table, key); table->slots[i].key; i = (i + 1) & (table->capacity - 1))
		if (table->slots[i].key == key)
			return table->slots[i].value;
	return NULL;
}

static void resize(struct table *table, size_t capacity)
{
	struct table next = { calloc(capacity, sizeof(struct slot)), capacity, 0 };

	if (!next.slots) {
		fprintf(stderr, "probe: out of memory for %zu table slots\n", capacity);
		exit(1);
	}
	for (size_t i = 0; i < table->capacity; i++)
		if (table->slots[i].key)
			table_put(&next, table->slots[i].key, table->slots[i].value);
	free(table->slots);
	*table = next;
}

void table_put(struct table *table, uint64_t key, void *value)
{
	size_t i;

	if ((table->used + 1) * 4 > table->capacity * 3)
		resize(table, table->capacity ? table->capacity * 2 : 64);
	for (i = home(table, key); table->slots[i].key; i = (i + 1) & (table->capacity - 1)) {
		if (table->slots[i].key == key) {
			table->slots[i].value = value;
			return;
		}
	}
	table->slots[i].key = key;
	table->slots[i].value = value;
	table->used++;
}

void *table_remove(struct table *table, uint64_t key)
{
	size_t mask = table->capacity - 1, i, j;
	void *value;

	if (!table->capacity)
		return NULL;
	for (i = home(table, key); table->slots[i].key != key; i = (i + 1) & mask)
		if (!table->slots[i].key)
			return NULL;
	value = table->slots[i].value;
	/* close the gap: later entries of the same run move up */
	for (j = (i + 1) & mask; table->slots[j].key; j = (j + 1) & mask) {
		size_t at = home(table, table->slots[j].key);

		if (((j - at) & mask) >= ((j - i) & mask)) {
			table->slots[i] = table->slots[j];
			i = j;
		}
	}
	table->slots[i].key = 0;
	table->slots[i].value = NULL;
	table->used--;
	return value;
}
