/* SPDX-License-Identifier: MIT */
/*
 * The few things that we read of other people's executables: 64-bit, of this machine's byte order. Every offset and size
 * in them is taken as hostile: reads are bounded, and what does not fit is not found.
 */
#ifndef COROOT_ELF_H
#define COROOT_ELF_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

struct elf {
	int fd;
	uint64_t size;
	Elf64_Ehdr head;
	Elf64_Phdr *segments;
	Elf64_Shdr *sections; /* NULL where there are none */
};

struct symbol {
	const char *name;
	uint64_t offset; /* in the file, 0 where it was not found */
	uint64_t size;
};

/* 0, or -1 for what is no executable that we can read. */
int elf_open(struct elf *elf, int fd);
void elf_close(struct elf *elf);
/* Fills in functions by name, from the dynamic symbols and, where some are missing, from all. How many were found. */
size_t elf_find(const struct elf *elf, struct symbol *symbols, size_t n);
/*
 * The same by the table that every Go program has, stripped or not, of Go 1.18 and later, whose functions take their
 * arguments in registers. -1 where there is no such table.
 */
int elf_find_go(const struct elf *elf, struct symbol *symbols, size_t n);
/* Whether there is a section of this name. */
int elf_has(const struct elf *elf, const char *section);
/* Reads `size` bytes at `offset`; NULL where the file does not have them. To be freed. */
uint8_t *elf_read(const struct elf *elf, uint64_t offset, uint64_t size);

#endif
