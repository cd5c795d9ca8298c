/* SPDX-License-Identifier: MIT */
#include "tls.h"
#include "code.h"
#include "elf.h"
#include "out.h"
#include "runs.h"
#include "../include/frames.h"
#include "../include/shared.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILES_EACH 4
#define MAX_HOOKS 128
#define ATTACHES_PER_TICK 8
#define EXAMINED_PER_TICK 8
#define FILES_PER_TICK 2
#define KEEP_TICKS 30 /* hooks on a file stay that long after its last reader */
#define FORGET_TICKS 600 /* what was found in a file is kept that long after its last process */
#define SWEEP_TICKS 15
#define SESSION_TICKS 10
#define BUDGET_TICKS 3
#define LOOK_AGAIN_TICKS 20
#define LOOKS 4
#define STAT_TICKS 10
#define SECOND 1000000000ULL
/* below this share of one core no process is cut off, whatever it uses itself */
#define FREE_SHARE 500

#define BPF_TRACE_UPROBE_MULTI 48
#define LINK_CREATE 28
struct link_uprobe_multi {
	uint32_t program, target, type, flags;
	uint64_t path, offsets, counters, cookies;
	uint32_t count, uprobe_flags, pid, pad;
};

/* A file with TLS functions in it, as many processes map it. */
struct file {
	dev_t dev;
	ino_t ino;
	int fd; /* kept while there may be hooks on it */
	char name[32];
	const char *why; /* why there is nothing to hook, NULL where there is */
	uint64_t offsets[MAX_HOOKS], cookies[MAX_HOOKS];
	uint32_t count;
	int link; /* for all processes, -1 */
	int each; /* hooks are per process */
	uint32_t users, unused; /* processes that are read, ticks without any */
	uint32_t referred, forgotten; /* processes that map it, ticks without any */
	struct file *next;
};

struct process {
	uint32_t tgid;
	uint64_t started; /* clock ticks since boot: another process with its number has another */
	uint32_t state;
	char reason[64];
	struct file *files[MAX_FILES_EACH];
	int links[MAX_FILES_EACH];
	int file_count;
	uint32_t look_at; /* tick */
	uint32_t looks;
	struct tls_process last;
	struct tls_process seen; /* counters when the budget was last looked at */
	uint64_t cpu;
	uint64_t looked_ns;
	uint32_t off_until;
	uint32_t on_ticks, off_ticks;
	uint64_t connections;
	int relative; /* parent of one that speaks TLS, there for its further children */
	int alive;
	struct process *next;
};

static struct kernel *k;
static struct tls_options options;
static struct process *processes;
static struct file *files;
static int changed;
static char refusal[64]; /* why the kernel takes no program for TLS */
static uint32_t now_tick;
static uint64_t trap_ns, slow_trap_ns, refused, traps, slow_traps;

static uint64_t mono(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static int hook(int fd, uint32_t pid, const uint64_t *offsets, const uint64_t *cookies, uint32_t count)
{
	char path[32];
	struct link_uprobe_multi attr = { .program = k->tls,
					  .type = BPF_TRACE_UPROBE_MULTI,
					  .path = (uint64_t)(uintptr_t)path,
					  .offsets = (uint64_t)(uintptr_t)offsets,
					  .cookies = (uint64_t)(uintptr_t)cookies,
					  .count = count,
					  .pid = pid };
	int link;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	link = syscall(__NR_bpf, LINK_CREATE, &attr, sizeof(attr));
	return link < 0 ? -errno : link;
}

/* Two functions of ours to measure the two kinds of traps on. */
extern const uint8_t measured_fast[], measured_slow[], measured_end[];
#if defined(__aarch64__)
__asm__(".text\n.global measured_fast\nmeasured_fast:\nret\n.global measured_slow\nmeasured_slow:\nret\n.global measured_end\n"
	"measured_end:\n");
#else
__asm__(".text\n.global measured_fast\nmeasured_fast:\npush %rbp\npop %rbp\nret\n"
	".global measured_slow\nmeasured_slow:\nret\n.global measured_end\nmeasured_end:\n");
#endif

static uint64_t per_call(const uint8_t *function)
{
	void (*call)(void) = (void (*)(void))(uintptr_t)function;
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < 5; round++) {
		uint64_t from = mono(), took;

		for (int i = 0; i < 100; i++)
			call();
		took = (mono() - from) / 100;
		if (took < best)
			best = took;
	}
	return best;
}

/* Where our own text is in our file. */
static uint64_t own_offset(const uint8_t *address)
{
	unsigned long from, to, offset;
	uint64_t found = 0;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		return 0;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %lx", &from, &to, &offset) == 3 && (uintptr_t)address >= from &&
		    (uintptr_t)address < to)
			found = (uintptr_t)address - from + offset;
	fclose(maps);
	return found;
}

static void measure(void)
{
	uint64_t cookie = TLS_NOTHING, offset;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), link;

	if (fd < 0)
		return;
	for (int slow = 0; slow < 2; slow++) {
		const uint8_t *function = slow ? measured_slow : measured_fast;
		uint64_t without = per_call(function);

		offset = own_offset(function);
		link = offset ? hook(fd, getpid(), &offset, &cookie, 1) : -1;
		if (link < 0)
			continue;
		*(slow ? &slow_trap_ns : &trap_ns) = per_call(function) - without;
		close(link);
	}
	close(fd);
}

static void give_up(struct file *file, const char *why)
{
	file->count = 0;
	file->why = why;
}

/* Adds the places of one function. */
static int add_function(struct file *file, const struct elf *elf, const struct symbol *symbol, uint64_t kind)
{
	struct place places[MAX_PLACES];
	const char *why;
	uint8_t *code;
	size_t n;

	if (!symbol->offset || symbol->size > 64 * 1024)
		return 0;
	code = elf_read(elf, symbol->offset, symbol->size);
	if (!code)
		return 0;
	n = places_of(code, symbol->size, !(kind & TLS_FREES), places, &why);
	free(code);
	if (!n) {
		file->why = why;
		return 0;
	}
	if (file->count + n > MAX_HOOKS) {
		file->why = "too many places";
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		file->offsets[file->count] = symbol->offset + places[i].offset;
		file->cookies[file->count++] = kind | (places[i].leaves ? TLS_LEAVES : 0) | (places[i].slow ? TLS_SLOW : 0) |
					       (uint64_t)places[i].depth << TLS_DEPTH;
	}
	return 1;
}

static int has_name(const char *path, const char *name)
{
	const char *base = strrchr(path, '/');

	return strstr(base ? base + 1 : path, name) != NULL;
}

static void scan_go(struct file *file, const struct elf *elf)
{
	struct symbol symbols[] = { { "crypto/tls.(*Conn).Read", 0, 0 },
				    { "crypto/tls.(*Conn).Write", 0, 0 },
				    { "crypto/tls.(*Conn).Close", 0, 0 } };
	static const uint64_t kinds[] = { TLS_GO, TLS_GO | TLS_WRITES, TLS_GO | TLS_FREES };
	int found = elf_find_go(elf, symbols, 3), got[3];

	if (found < 0) {
		give_up(file, "Go before 1.18");
		return;
	}
	if (!symbols[0].offset || !symbols[1].offset) {
		give_up(file, "Go without crypto/tls");
		return;
	}
	for (size_t i = 0; i < 3; i++)
		got[i] = add_function(file, elf, &symbols[i], kinds[i]);
	if (!got[0] || !got[1])
		give_up(file, file->why ? file->why : "Go: its code is not understood");
	else
		file->why = NULL;
}

static void scan(struct file *file, const char *path)
{
	struct symbol symbols[] = { { "SSL_read", 0, 0 },     { "SSL_read_ex", 0, 0 }, { "SSL_write", 0, 0 },
				    { "SSL_write_ex", 0, 0 }, { "SSL_free", 0, 0 } };
	static const uint64_t kinds[] = { 0, TLS_EX, TLS_WRITES, TLS_EX | TLS_WRITES, TLS_FREES };
	int got[5];
	struct elf elf;

	if (elf_open(&elf, file->fd)) {
		give_up(file, "its executable cannot be read");
	} else if (elf_find(&elf, symbols, 5)) {
		for (size_t i = 0; i < 5; i++)
			got[i] = add_function(file, &elf, &symbols[i], kinds[i]);
		/* a program may use either form: one that cannot be hooked would be missed in silence */
		if ((symbols[1].offset && !got[1]) || (symbols[3].offset && !got[3]) || !got[0] || !got[2])
			give_up(file, file->why ? file->why : "SSL_read or SSL_write is missing");
		else
			file->why = NULL;
	} else if (elf_has(&elf, ".gopclntab") || elf_has(&elf, ".go.buildinfo")) {
		scan_go(file, &elf);
	} else if (has_name(path, "java")) {
		give_up(file, "Java: TLS of its own");
	} else {
		give_up(file, has_name(path, "gnutls") ? "GnuTLS is not read" : "no TLS library that we know, or no symbols");
	}
	elf_close(&elf);
}

int tls_explain(const char *path)
{
	struct file file = { .fd = open(path, O_RDONLY | O_CLOEXEC) };

	if (file.fd < 0) {
		perror(path);
		return 1;
	}
	scan(&file, path);
	for (uint32_t i = 0; i < file.count; i++)
		printf("%lx %s%s%s%s +%lu\n", (unsigned long)file.offsets[i], file.cookies[i] & TLS_FREES ? "free" :
		       file.cookies[i] & TLS_WRITES ? "write" : "read", file.cookies[i] & TLS_EX ? "-ex" : "",
		       file.cookies[i] & TLS_LEAVES ? " return" : " entry", file.cookies[i] & TLS_SLOW ? " slow" : "",
		       (unsigned long)(file.cookies[i] >> TLS_DEPTH));
	if (file.why)
		printf("nothing: %s\n", file.why);
	return file.why != NULL;
}

int tls_empty(const char *path)
{
	const struct bpf_insn nothing[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K }, { .code = BPF_JMP | BPF_EXIT } };
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_UPROBE_MULTI);
	struct file file = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
	struct kernel kernel = { .tls = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tls_empty", "GPL", nothing, 2, &opts) };
	char ignored[64];
	int link;

	k = &kernel;
	if (file.fd >= 0)
		scan(&file, path);
	link = file.fd < 0 || file.why || kernel.tls < 0 ? -1 : hook(file.fd, 0, file.offsets, file.cookies, file.count);
	if (link < 0) {
		fprintf(stderr, "probe: %s: %s\n", path, file.why ? file.why : strerror(errno));
		return 1;
	}
	printf("hooked %u places\n", file.count);
	fflush(stdout);
	while (read(STDIN_FILENO, ignored, sizeof(ignored)) > 0)
		;
	return 0;
}

/* The file behind an open descriptor, which is taken over. `budget` bounds how many are scanned now; NULL: later. */
static struct file *file_of(int fd, const char *path, int *budget)
{
	const char *base = strrchr(path, '/');
	struct stat stat;
	struct file *file;

	if (fstat(fd, &stat)) {
		close(fd);
		return NULL;
	}
	for (file = files; file; file = file->next)
		if (file->dev == stat.st_dev && file->ino == stat.st_ino) {
			close(fd);
			return file;
		}
	if (*budget <= 0) {
		close(fd);
		return NULL;
	}
	(*budget)--;
	file = calloc(1, sizeof(*file));
	if (!file) {
		close(fd);
		return NULL;
	}
	file->dev = stat.st_dev;
	file->ino = stat.st_ino;
	file->fd = fd;
	file->link = -1;
	snprintf(file->name, sizeof(file->name), "%s", base ? base + 1 : path);
	scan(file, path);
	if (file->why) {
		close(file->fd);
		file->fd = -1;
	}
	file->next = files;
	files = file;
	return file;
}

static int read_proc(uint32_t tgid, const char *what, char *to, size_t size)
{
	char path[64];
	size_t used = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/%s", tgid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (used < size - 1 && (n = read(fd, to + used, size - 1 - used)) > 0)
		used += n;
	close(fd);
	to[used] = 0;
	return used;
}

/* Parent, CPU time in ns, and start in clock ticks since boot; 0, or -1 where the process is gone. */
static int stat_of(uint32_t tgid, uint32_t *parent, uint64_t *cpu, uint64_t *started)
{
	unsigned long long user, system, start;
	char text[1024], *after, state;
	unsigned int ppid;

	if (read_proc(tgid, "stat", text, sizeof(text)) <= 0)
		return -1;
	after = strrchr(text, ')');
	if (!after || sscanf(after + 1, " %c %u %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
			     &state, &ppid, &user, &system, &start) != 5)
		return -1;
	if (state == 'Z' || state == 'X')
		return -1;
	*parent = ppid;
	*cpu = (user + system) * (SECOND / sysconf(_SC_CLK_TCK));
	*started = start;
	return 0;
}

/* By Coroot's name for a process whose traffic must not be read, or by ours for TLS alone. */
static int opted_out(uint32_t tgid)
{
	static char environment[256 * 1024];
	int n = read_proc(tgid, "environ", environment, sizeof(environment));

	for (char *at = environment; n > 0 && at < environment + n; at += strlen(at) + 1)
		if (strcmp(at, "COROOT_EBPF_TRACES=disabled") == 0 || strcmp(at, "COROOT_EBPF_TLS=disabled") == 0)
			return 1;
	return 0;
}

static void say(struct process *process, uint32_t state, const char *reason)
{
	if (process->state == state && strcmp(process->reason, reason) == 0)
		return;
	process->state = state;
	snprintf(process->reason, sizeof(process->reason), "%s", reason);
	changed = 1;
}

static void tell_kernel(const struct process *process)
{
	uint32_t state = process->state == TLS_READ ? TLS_HOOKED : TLS_IGNORED;
	struct tls_process value;

	/* the counters of an entry may grow meanwhile: a few of them do not matter */
	if (bpf_map_lookup_elem(k->tls_processes, &process->tgid, &value)) {
		memset(&value, 0, sizeof(value));
	} else if (value.state == state) {
		return;
	}
	value.state = state;
	bpf_map_update_elem(k->tls_processes, &process->tgid, &value, BPF_ANY);
}

static void drop_links(struct process *process)
{
	for (int i = 0; i < process->file_count; i++) {
		if (process->links[i] >= 0)
			close(process->links[i]);
		process->links[i] = -1;
	}
}

/* Opens a mapped file itself, whatever its path is by now and in whichever mount namespace. */
static int open_mapped(uint32_t tgid, unsigned long from, unsigned long to, const char *path)
{
	char name[512];
	int fd;

	snprintf(name, sizeof(name), "/proc/%u/map_files/%lx-%lx", tgid, from, to);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	snprintf(name, sizeof(name), "/proc/%u/root%.400s", tgid, path);
	return open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* Finds what the process speaks TLS with. 1: done; 0: more to scan at another tick. */
static int find_files(struct process *process, int *budget)
{
	char path[64], line[1024], name[512], exe[512];
	const char *why = NULL;
	unsigned long from, to;
	struct file *file;
	ssize_t n;
	FILE *maps;
	int fd, done = 1;

	snprintf(path, sizeof(path), "/proc/%u/exe", process->tgid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = 0;
	snprintf(path, sizeof(path), "/proc/%u/maps", process->tgid);
	maps = fopen(path, "re");
	if (!maps) {
		say(process, TLS_UNREADABLE, "its mappings may not be read");
		return 1;
	}
	process->file_count = 0;
	while (process->file_count < MAX_FILES_EACH && fgets(line, sizeof(line), maps)) {
		char flags[8];

		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511[^\n]", &from, &to, flags, name) != 4 || flags[2] != 'x' ||
		    (!has_name(name, "ssl") && !has_name(name, "gnutls")))
			continue;
		fd = open_mapped(process->tgid, from, to, name);
		file = fd < 0 ? NULL : file_of(fd, name, budget);
		if (!file) {
			done &= fd < 0 || *budget > 0;
			continue;
		}
		if (!file->why)
			process->files[process->file_count++] = file;
		else
			why = file->why;
	}
	fclose(maps);
	if (!done)
		return 0;
	if (!process->file_count) {
		snprintf(path, sizeof(path), "/proc/%u/exe", process->tgid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			say(process, TLS_UNREADABLE, "its executable may not be opened");
			return 1;
		}
		file = file_of(fd, exe, budget);
		if (!file)
			return *budget > 0;
		if (!file->why)
			process->files[process->file_count++] = file;
		else if (!why)
			why = file->why;
	}
	for (int i = 0; i < process->file_count; i++)
		process->links[i] = -1;
	if (process->file_count)
		say(process, TLS_READ, process->files[0]->name);
	else
		say(process, TLS_UNREADABLE, why ? why : "no TLS library that we know");
	return 1;
}

static struct process *process_of(uint32_t tgid)
{
	for (struct process *process = processes; process; process = process->next)
		if (process->tgid == tgid)
			return process;
	return NULL;
}

static struct process *meet_process(uint32_t tgid)
{
	struct process *process = process_of(tgid);

	if (process)
		return process;
	process = calloc(1, sizeof(*process));
	if (!process)
		return NULL;
	process->tgid = tgid;
	process->alive = 1;
	process->next = processes;
	processes = process;
	return process;
}

static double seconds_up(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* A parent of the same program makes more of them: its children are then read from their first byte. */
static void meet_parent(const struct process *child, uint32_t parent)
{
	char path[64];
	struct stat mine, its;
	struct process *process;
	uint64_t cpu, started;
	uint32_t grand;

	if (parent <= 1 || process_of(parent))
		return;
	snprintf(path, sizeof(path), "/proc/%u/exe", child->tgid);
	if (stat(path, &mine))
		return;
	snprintf(path, sizeof(path), "/proc/%u/exe", parent);
	if (stat(path, &its) || mine.st_dev != its.st_dev || mine.st_ino != its.st_ino || opted_out(parent) ||
	    stat_of(parent, &grand, &cpu, &started))
		return;
	process = meet_process(parent);
	if (!process)
		return;
	process->started = started;
	process->state = TLS_READ;
	process->relative = 1;
	process->file_count = child->file_count;
	memcpy(process->files, child->files, sizeof(process->files));
	for (int i = 0; i < process->file_count; i++)
		process->links[i] = -1;
	tell_kernel(process);
}

static void examine(struct process *process, int *budget)
{
	uint64_t cpu, started;
	uint32_t parent;

	if (stat_of(process->tgid, &parent, &cpu, &started))
		return;
	process->started = started;
	process->look_at = now_tick + 1;
	if (options.off) {
		say(process, TLS_UNREADABLE, "reading TLS is turned off");
		process->look_at = UINT32_MAX;
	} else if (k->tls < 0) {
		say(process, TLS_UNREADABLE, refusal);
		process->look_at = UINT32_MAX;
	} else if (opted_out(process->tgid)) {
		/* its file must not be hooked for all */
		if (find_files(process, budget)) {
			say(process, TLS_OPTED_OUT, "opted out by its environment");
			process->look_at = UINT32_MAX;
		}
	} else if (seconds_up() - (double)started / sysconf(_SC_CLK_TCK) < options.delay) {
		say(process, TLS_WAITING, "started just now");
	} else if (find_files(process, budget)) {
		process->look_at = UINT32_MAX;
		if (process->state == TLS_READ) {
			process->cpu = cpu;
			process->looked_ns = mono();
			meet_parent(process, parent);
		} else if (process->looks++ < LOOKS) {
			/* a library may be loaded later */
			process->look_at = now_tick + LOOK_AGAIN_TICKS;
		}
	}
	if (process->state != TLS_WAITING)
		tell_kernel(process);
}

/* Cuts off a process whose traps cost more than its share, for as long as makes up for it. */
static void judge(struct process *process, const struct tls_process *value)
{
	uint64_t cost, used, wall = mono() - process->looked_ns, share, cpu, started;
	char reason[64];
	uint32_t parent;

	if (process->state == TLS_OVER) {
		process->off_ticks++;
		if (now_tick >= process->off_until) {
			say(process, TLS_READ, process->files[0]->name);
			tell_kernel(process);
			process->looked_ns = 0;
		}
		return;
	}
	if (process->state != TLS_READ)
		return;
	process->on_ticks++;
	if (process->on_ticks % BUDGET_TICKS && process->looked_ns)
		return;
	if (stat_of(process->tgid, &parent, &cpu, &started))
		return;
	cost = (value->traps - process->seen.traps) * trap_ns + (value->slow_traps - process->seen.slow_traps) * slow_trap_ns;
	used = cpu - process->cpu;
	share = used ? cost * 1000 / used : 0;
	process->seen = *value;
	process->cpu = cpu;
	if (process->looked_ns && options.budget && cost * 100000 > wall * FREE_SHARE && share > options.budget) {
		uint64_t off = wall / SECOND * (share - options.budget) / options.budget;

		process->off_until = now_tick + (off < 10 ? 10 : off > 300 ? 300 : off);
		process->looked_ns = 0;
		snprintf(reason, sizeof(reason), "over its budget: hooks cost %u %% of its CPU time", (unsigned)(share / 10));
		say(process, TLS_OVER, reason);
		tell_kernel(process);
		return;
	}
	process->looked_ns = mono();
}

/* A link, or -1 where the kernel refused it: nobody is read by that file then. */
static int hook_file(struct file *file, uint32_t tgid)
{
	int link = hook(file->fd, tgid, file->offsets, file->cookies, file->count);

	if (link >= 0)
		return link;
	refused++;
	/* a process may have ended meanwhile */
	if (link == -ESRCH)
		return -1;
	fprintf(stderr, "probe: TLS: %s: %s\n", file->name, strerror(-link));
	for (struct process *process = processes; process; process = process->next)
		for (int i = 0; i < process->file_count; i++)
			if (process->files[i] == file && process->state == TLS_READ) {
				say(process, TLS_UNREADABLE, "the kernel refuses hooks in its file");
				tell_kernel(process);
			}
	return -1;
}

/* Opens and closes hooks as the processes want them. */
static void apply(void)
{
	int attaches = ATTACHES_PER_TICK;

	for (struct file *file = files; file; file = file->next)
		file->users = file->referred = 0;
	for (struct process *process = processes; process; process = process->next)
		for (int i = 0; i < process->file_count; i++) {
			struct file *file = process->files[i];

			file->referred++;
			if (process->state == TLS_READ)
				file->users++;
			else if ((process->state == TLS_OPTED_OUT || process->state == TLS_OVER) && !file->each)
				file->each = 1;
		}
	for (struct file *file = files; file; file = file->next) {
		file->unused = file->users ? 0 : file->unused + 1;
		if (file->link >= 0 && (file->each || file->unused > KEEP_TICKS)) {
			close(file->link);
			file->link = -1;
		} else if (file->link < 0 && !file->each && file->users && attaches > 0) {
			attaches--;
			file->link = hook_file(file, 0);
		}
	}
	for (struct process *process = processes; process; process = process->next) {
		for (int i = 0; i < process->file_count; i++) {
			struct file *file = process->files[i];
			int wanted = process->state == TLS_READ && file->each && !process->relative;

			if (wanted && process->links[i] < 0 && attaches > 0) {
				attaches--;
				process->links[i] = hook_file(file, process->tgid);
			} else if (!wanted && process->links[i] >= 0) {
				close(process->links[i]);
				process->links[i] = -1;
			}
		}
	}
}

static void forget_files(void)
{
	struct file **at, *file;

	for (at = &files; (file = *at);) {
		file->forgotten = file->referred ? 0 : file->forgotten + 1;
		if (file->forgotten <= FORGET_TICKS || file->link >= 0) {
			at = &file->next;
			continue;
		}
		if (file->fd >= 0)
			close(file->fd);
		*at = file->next;
		free(file);
	}
}

/* Sessions whose socket nobody has any more. */
static void sweep(void)
{
	static struct tls_key keys[256];
	static unsigned char *value;
	struct tls_key key, next;
	uint32_t n = 0;
	int more;

	if (!value)
		value = malloc(bpf_map__value_size(bpf_object__find_map_by_name(k->object, "tls_sessions")));
	if (!value || !k->connections)
		return;
	for (more = bpf_map_get_next_key(k->tls_sessions, NULL, &next) == 0; more && n < 256;
	     more = bpf_map_get_next_key(k->tls_sessions, &key, &next) == 0) {
		uint32_t looked;

		key = next;
		if (bpf_map_lookup_elem(k->tls_sessions, &key, value))
			continue;
		/* struct tls_session of lib/conn.h: sk, stamp, score, looked */
		memcpy(&looked, value + 20, sizeof(looked));
		if (now_tick - looked > SESSION_TICKS)
			keys[n++] = key;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint64_t sk;

		if (bpf_map_lookup_elem(k->tls_sessions, &keys[i], value))
			continue;
		memcpy(&sk, value, sizeof(sk));
		if (sk)
			bpf_map_delete_elem(k->tls_sockets, &sk);
		bpf_map_delete_elem(k->tls_sessions, &keys[i]);
		bpf_map_delete_elem(k->tls_h2s, &keys[i]);
	}
}

void tls_start(struct kernel *kernel, const struct tls_options *wanted)
{
	k = kernel;
	options = *wanted;
}

void tls_tick(uint32_t tick)
{
	static uint32_t keys[MAX_TLS_PROCESSES];
	static struct tls_process values[MAX_TLS_PROCESSES];
	int budget = FILES_PER_TICK, examined = 0;
	uint32_t n = MAX_TLS_PROCESSES;
	struct process **at, *process;
	uint64_t out;
	static int prepared;

	now_tick = tick;
	if (k->tls_processes < 0)
		return;
	if (bpf_map_lookup_batch(k->tls_processes, NULL, &out, keys, values, &n, NULL) && errno != ENOENT)
		return;
	if (n && !prepared && !options.off) {
		prepared = 1;
		if (!load_tls(k, refusal, sizeof(refusal))) {
			measure();
			runs_add(k->tls, "tls_call");
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		process = process_of(keys[i]);
		if (!process) {
			process = meet_process(keys[i]);
			if (!process)
				continue;
			changed = 1;
		}
		if (values[i].connections != process->connections) {
			process->connections = values[i].connections;
			process->relative = 0;
		}
		if (!process->relative && process->look_at <= tick && examined++ < EXAMINED_PER_TICK)
			examine(process, &budget);
		traps += values[i].traps - process->last.traps;
		slow_traps += values[i].slow_traps - process->last.slow_traps;
		process->last = values[i];
		judge(process, &values[i]);
	}
	for (at = &processes; (process = *at);) {
		uint64_t cpu, started;
		uint32_t parent;

		/* a number that was given anew is noticed by the start of the process, now and then */
		if ((kill(process->tgid, 0) && errno == ESRCH) ||
		    ((tick + process->tgid) % STAT_TICKS == 0 && (stat_of(process->tgid, &parent, &cpu, &started) ||
								   (process->started && process->started != started)))) {
			drop_links(process);
			bpf_map_delete_elem(k->tls_processes, &process->tgid);
			*at = process->next;
			free(process);
			changed = 1;
			continue;
		}
		at = &process->next;
	}
	apply();
	forget_files();
	if (tick % SWEEP_TICKS == 0)
		sweep();
}

void tls_send(void)
{
	size_t rows = 0;

	if (!changed)
		return;
	changed = 0;
	out_begin(FRAME_TLS);
	for (struct process *process = processes; process; process = process->next) {
		struct frame_tls *row;

		if (process->relative)
			continue;
		rows++;
		row = out_row(sizeof(*row));
		row->tgid = process->tgid;
		row->state = process->state;
		row->connections = process->connections;
		snprintf(row->reason, sizeof(row->reason), "%s", process->reason);
	}
	if (!rows)
		out_row(sizeof(struct frame_tls));
	out_end();
}

struct tls_figures tls_figures(void)
{
	struct tls_figures f = { .trap_ns = trap_ns, .slow_trap_ns = slow_trap_ns, .refused = refused,
				 .traps = traps, .slow_traps = slow_traps };

	for (struct process *process = processes; process; process = process->next) {
		f.processes += !process->relative;
		f.read += process->state == TLS_READ && !process->relative;
		for (int i = 0; i < process->file_count; i++)
			f.links += process->links[i] >= 0;
	}
	for (struct file *file = files; file; file = file->next) {
		f.files++;
		f.links += file->link >= 0;
	}
	return f;
}
