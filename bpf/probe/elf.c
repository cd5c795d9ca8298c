/* SPDX-License-Identifier: MIT */
#include "elf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SECTIONS 4096
#define MAX_SEGMENTS 256
#define CHUNK 4096 /* symbols */
#define MAX_NAMES (128ULL << 20)
#define MAX_GO_TABLE (256ULL << 20)

#if defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#define MACHINE EM_X86_64
#endif

static int read_at(const struct elf *elf, void *to, uint64_t offset, uint64_t size)
{
	char *at = to;

	if (offset > elf->size || size > elf->size - offset)
		return -1;
	while (size) {
		ssize_t n = pread(elf->fd, at, size, offset);

		if (n <= 0)
			return -1;
		at += n;
		offset += n;
		size -= n;
	}
	return 0;
}

uint8_t *elf_read(const struct elf *elf, uint64_t offset, uint64_t size)
{
	uint8_t *bytes;

	if (!size || offset > elf->size || size > elf->size - offset)
		return NULL;
	bytes = malloc(size);
	if (bytes && read_at(elf, bytes, offset, size)) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

int elf_open(struct elf *elf, int fd)
{
	struct stat stat;
	Elf64_Ehdr *head = &elf->head;

	memset(elf, 0, sizeof(*elf));
	elf->fd = fd;
	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode) || stat.st_size < (off_t)sizeof(*head))
		return -1;
	elf->size = stat.st_size;
	if (read_at(elf, head, 0, sizeof(*head)) || memcmp(head->e_ident, ELFMAG, SELFMAG) ||
	    head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_machine != MACHINE || head->e_phentsize != sizeof(Elf64_Phdr) ||
	    !head->e_phnum || head->e_phnum > MAX_SEGMENTS)
		return -1;
	elf->segments = (Elf64_Phdr *)elf_read(elf, head->e_phoff, head->e_phnum * sizeof(Elf64_Phdr));
	if (!elf->segments)
		return -1;
	if (head->e_shnum && head->e_shnum <= MAX_SECTIONS && head->e_shentsize == sizeof(Elf64_Shdr))
		elf->sections = (Elf64_Shdr *)elf_read(elf, head->e_shoff, head->e_shnum * sizeof(Elf64_Shdr));
	return 0;
}

void elf_close(struct elf *elf)
{
	free(elf->segments);
	free(elf->sections);
	elf->segments = NULL;
	elf->sections = NULL;
}

static uint64_t offset_of(const struct elf *elf, uint64_t address)
{
	for (int i = 0; i < elf->head.e_phnum; i++) {
		const Elf64_Phdr *p = &elf->segments[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && address >= p->p_vaddr && address - p->p_vaddr < p->p_filesz)
			return address - p->p_vaddr + p->p_offset;
	}
	return 0;
}

static size_t missing(const struct symbol *symbols, size_t n)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++)
		left += symbols[i].offset == 0;
	return left;
}

static void look_through(const struct elf *elf, const Elf64_Shdr *section, struct symbol *symbols, size_t n)
{
	const Elf64_Shdr *strings;
	uint64_t count = section->sh_size / sizeof(Elf64_Sym);
	Elf64_Sym *chunk;
	char *names;

	if (section->sh_link >= elf->head.e_shnum || section->sh_entsize != sizeof(Elf64_Sym))
		return;
	strings = &elf->sections[section->sh_link];
	if (!strings->sh_size || strings->sh_size > MAX_NAMES)
		return;
	names = (char *)elf_read(elf, strings->sh_offset, strings->sh_size);
	chunk = malloc(CHUNK * sizeof(*chunk));
	if (names && chunk) {
		names[strings->sh_size - 1] = 0;
		for (uint64_t at = 0; at < count && missing(symbols, n); at += CHUNK) {
			uint64_t many = count - at < CHUNK ? count - at : CHUNK;

			if (read_at(elf, chunk, section->sh_offset + at * sizeof(*chunk), many * sizeof(*chunk)))
				break;
			for (uint64_t i = 0; i < many; i++) {
				if (ELF64_ST_TYPE(chunk[i].st_info) != STT_FUNC || !chunk[i].st_value || !chunk[i].st_size ||
				    chunk[i].st_name >= strings->sh_size)
					continue;
				for (size_t s = 0; s < n; s++) {
					if (symbols[s].offset || strcmp(names + chunk[i].st_name, symbols[s].name))
						continue;
					symbols[s].offset = offset_of(elf, chunk[i].st_value);
					symbols[s].size = chunk[i].st_size;
				}
			}
		}
	}
	free(chunk);
	free(names);
}

size_t elf_find(const struct elf *elf, struct symbol *symbols, size_t n)
{
	static const uint32_t tables[] = { SHT_DYNSYM, SHT_SYMTAB };

	for (size_t i = 0; i < n; i++)
		symbols[i].offset = symbols[i].size = 0;
	for (size_t t = 0; elf->sections && t < 2; t++) {
		/* a library that exports one exports all */
		if (missing(symbols, n) < n)
			break;
		for (int i = 0; i < elf->head.e_shnum; i++)
			if (elf->sections[i].sh_type == tables[t])
				look_through(elf, &elf->sections[i], symbols, n);
	}
	return n - missing(symbols, n);
}

static const Elf64_Shdr *section_of(const struct elf *elf, const char *section)
{
	const Elf64_Shdr *strings;
	char name[32];
	size_t length = strlen(section) + 1;

	if (!elf->sections || elf->head.e_shstrndx >= elf->head.e_shnum || length > sizeof(name))
		return NULL;
	strings = &elf->sections[elf->head.e_shstrndx];
	for (int i = 0; i < elf->head.e_shnum; i++)
		if (elf->sections[i].sh_name < strings->sh_size &&
		    !read_at(elf, name, strings->sh_offset + elf->sections[i].sh_name, length) && !memcmp(name, section, length))
			return &elf->sections[i];
	return NULL;
}

int elf_has(const struct elf *elf, const char *section)
{
	return section_of(elf, section) != NULL;
}

/* The table's head: a magic number of its version, then words. */
struct go_table {
	uint32_t magic;
	uint8_t zero[2], quantum, word;
	uint64_t functions, files, text, names, units, file_names, positions, entries;
};

int elf_find_go(const struct elf *elf, struct symbol *symbols, size_t n)
{
	const Elf64_Shdr *section = section_of(elf, ".gopclntab"), *text = section_of(elf, ".text");
	const struct go_table *table;
	uint64_t size, base;
	uint8_t *bytes;
	int found = -1;

	if (!section)
		section = section_of(elf, ".data.rel.ro.gopclntab");
	if (!section || section->sh_size < sizeof(*table) || section->sh_size > MAX_GO_TABLE)
		return -1;
	size = section->sh_size;
	bytes = elf_read(elf, section->sh_offset, size);
	if (!bytes)
		return -1;
	table = (const struct go_table *)bytes;
	if ((table->magic != 0xfffffff0 && table->magic != 0xfffffff1) || table->word != 8 || table->names >= size ||
	    table->entries >= size || table->functions > (size - table->entries) / 8 - 1)
		goto out;
	/* position-independent programs learn it when they start */
	base = table->text || !text ? table->text : text->sh_addr;
	for (size_t i = 0; i < n; i++)
		symbols[i].offset = symbols[i].size = 0;
	bytes[size - 1] = 0;
	for (uint64_t f = 0; f < table->functions && missing(symbols, n); f++) {
		uint32_t entry[3]; /* where it begins, its description, where the next begins */
		uint32_t name;

		memcpy(entry, bytes + table->entries + f * 8, sizeof(entry));
		if (entry[1] > size - table->entries - 8)
			continue;
		memcpy(&name, bytes + table->entries + entry[1] + 4, sizeof(name));
		if (name >= size - table->names)
			continue;
		for (size_t s = 0; s < n; s++) {
			if (symbols[s].offset || strcmp((char *)bytes + table->names + name, symbols[s].name))
				continue;
			symbols[s].offset = offset_of(elf, base + entry[0]);
			symbols[s].size = entry[2] - entry[0];
		}
	}
	found = n - missing(symbols, n);
out:
	free(bytes);
	return found;
}
