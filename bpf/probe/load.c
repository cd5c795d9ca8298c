/* SPDX-License-Identifier: MIT */
#include "load.h"
#include "out.h"
#include "spans.h"
#include "../include/frames.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const unsigned char object_start[], object_end[];
__asm__(".section .rodata\n"
	".balign 16\n"
	".global object_start\n"
	"object_start:\n"
	".incbin \"" OBJECT_PATH "\"\n"
	".global object_end\n"
	"object_end:\n"
	".previous\n");

struct unit {
	const char *program;
	const char *feature;
	const char *without; /* what is missing then */
	const char *instead_of; /* program without which it is not needed, or NULL */
	int error;
	char reason[152];
};

static struct unit units[] = {
	{ "sock_send", "requests.send", "requests are not counted (needs kernel 6.3 with BTF)", NULL, 0, "" },
	{ "sock_receive", "requests.receive", "requests are not counted (needs kernel 6.3 with BTF)", NULL, 0, "" },
	{ "tcp_state", "connections", "connections are not seen", NULL, 0, "" },
	{ "each_connection", "connections.live", "bytes, round trips and waiting requests are not read", NULL, 0, "" },
	{ "each_socket", "connections.live", "", "each_connection", 0, "" },
	{ "each_file", "connections.older", "connections older than the probe are not seen", NULL, 0, "" },
	{ "process_exec", "process.exec", "starts of processes are not seen", NULL, 0, "" },
	{ "process_exit", "process.exit", "ends of processes are not seen", NULL, 0, "" },
	{ "oom_victim", "process.oom", "kills for memory are not seen (needs kernel 6.9)", NULL, 0, "" },
	{ "block_done", "disk.requests", "requests of disks are not timed", NULL, 0, "" },
	{ "sync_start", "files.sync", "fsync is not timed (ext4 only)", NULL, 0, "" },
	{ "sync_done", "files.sync.end", "fsync is not timed (ext4 only)", NULL, 0, "" },
};
#define UNITS (sizeof(units) / sizeof(units[0]))
#define LOG (256 * 1024)

/* The attach type of programs for many places in a file, which the library may be too old to have a name for. */
#define UPROBE_MULTI 48

static char said[152];

static int listen_to(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level == LIBBPF_WARN)
		vsnprintf(said, sizeof(said), format, args);
	return 0;
}

static void fail(struct unit *unit, int error, const char *stage, const char *detail)
{
	size_t n;

	unit->error = error < 0 ? -error : error;
	if (unit->error == EPERM)
		detail = "needs root or CAP_BPF and CAP_PERFMON";
	snprintf(unit->reason, sizeof(unit->reason), "%s: %s%s%s", stage, strerror(unit->error), detail && *detail ? ": " : "",
		 detail ? detail : "");
	for (n = 0; unit->reason[n]; n++)
		if (unit->reason[n] == '\n' || unit->reason[n] == '\t')
			unit->reason[n] = ' ';
}

static const struct span_options *spans;

static void set_constants(struct bpf_object *object)
{
	const uint32_t words[] = { !spans->off, spans->shift };
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), ".rodata.config"))
			bpf_map__set_initial_value(map, words, sizeof(words));
}

static struct bpf_object *open_object(char *log)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "coroot", .kernel_log_buf = log,
		    .kernel_log_size = log ? LOG : 0, .kernel_log_level = log ? 1 : 0);

	struct bpf_object *object = bpf_object__open_mem(object_start, object_end - object_start, &opts);
	struct bpf_program *program = object ? bpf_object__find_program_by_name(object, "tls_call") : NULL;

	if (object)
		set_constants(object);
	if (program) {
		bpf_program__set_expected_attach_type(program, UPROBE_MULTI);
		bpf_program__set_autoload(program, false);
	}
	return object;
}

static struct unit *unit_of(const struct bpf_program *program)
{
	for (size_t i = 0; i < UNITS; i++)
		if (strcmp(units[i].program, bpf_program__name(program)) == 0)
			return &units[i];
	return NULL;
}

static struct unit *unit_named(const char *program)
{
	for (size_t i = 0; i < UNITS; i++)
		if (program && strcmp(units[i].program, program) == 0)
			return &units[i];
	return NULL;
}

/* Whether its place is taken by the program that it stands in for. */
static int is_spare(const struct unit *unit)
{
	const struct unit *first = unit_named(unit->instead_of);

	return first && !first->error;
}

/* The verifier's last line that says something. */
static const char *last_line(char *log)
{
	char *end = log + strlen(log), *line;

	for (;;) {
		while (end > log && end[-1] == '\n')
			*--end = 0;
		line = strrchr(log, '\n');
		line = line ? line + 1 : log;
		if (line == log || (strncmp(line, "processed ", 10) && strncmp(line, "max_states", 10)))
			return line;
		end = line;
	}
}

/* Loads one program alone. 0, or -errno; with a log the verifier's words are in it. */
static int load_alone(struct unit *unit, char *log)
{
	struct bpf_object *object;
	struct bpf_program *program;
	int error;

	if (log)
		log[0] = 0;
	said[0] = 0;
	object = open_object(log);
	if (!object)
		return -errno;
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, unit_of(program) == unit);
	error = bpf_object__load(object);
	bpf_object__close(object);
	return error;
}

/* Learns which programs this kernel refuses, and why. */
static void examine(void)
{
	char *log = malloc(LOG);

	for (size_t i = 0; i < UNITS; i++) {
		int error = is_spare(&units[i]) ? 0 : load_alone(&units[i], NULL);

		if (!error)
			continue;
		/* again with a log: it does not hold all of a large program, which is an error by itself */
		if (log)
			load_alone(&units[i], log);
		fail(&units[i], error, "load", log && log[0] ? last_line(log) : said);
	}
	free(log);
}

/* The program for TLS is loaded when the first process speaks it; that this kernel has such programs is known at once. */
static void report_tls(void)
{
	const struct bpf_insn nothing[] = { { .code = 0xb7 }, { .code = 0x95 } };
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = UPROBE_MULTI);
	struct frame_capability c = { .feature = "requests.tls", .state = STATE_ON };
	int fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tls_try", "GPL", nothing, 2, &opts);

	if (fd < 0) {
		c.state = STATE_OFF;
		c.error = errno;
		snprintf(c.reason, sizeof(c.reason), "TLS is not read (needs kernel 6.6); load: %s", strerror(errno));
	} else {
		close(fd);
	}
	out_frame(FRAME_CAPABILITY, &c, sizeof(c));
}

static void report(void)
{
	for (size_t i = 0; i < UNITS; i++) {
		int error = units[i].error;
		struct frame_capability c = {};

		if (units[i].instead_of)
			continue;
		for (size_t j = 0; j < UNITS; j++)
			if (units[j].instead_of && unit_named(units[j].instead_of) == &units[i] && !units[j].error)
				error = 0;
		c.state = error ? STATE_OFF : STATE_ON;
		c.error = error;
		snprintf(c.feature, sizeof(c.feature), "%s", units[i].feature);
		if (error)
			snprintf(c.reason, sizeof(c.reason), "%.70s; %.78s", units[i].without, units[i].reason);
		out_frame(FRAME_CAPABILITY, &c, sizeof(c));
	}
	report_tls();
}

static int attach(struct kernel *kernel, struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object) {
		struct unit *unit = unit_of(program);
		struct bpf_link *link;

		if (!unit || unit->error || is_spare(unit))
			continue;
		said[0] = 0;
		if (strcmp(unit->program, "each_connection") == 0) {
			union bpf_iter_link_info info = { .map.map_fd = (unsigned)kernel->conns };
			LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));

			link = kernel->connections = bpf_program__attach_iter(program, &opts);
		} else if (strcmp(unit->program, "each_socket") == 0) {
			link = kernel->connections = bpf_program__attach_iter(program, NULL);
		} else if (strcmp(unit->program, "each_file") == 0) {
			link = kernel->files = bpf_program__attach_iter(program, NULL);
		} else {
			link = bpf_program__attach(program);
		}
		if (!link)
			fail(unit, errno, "attach", said);
		else
			kernel->programs++;
	}
	return kernel->programs;
}

static int refuse(int error, const char *stage, const char *detail)
{
	for (size_t i = 0; i < UNITS; i++)
		if (!units[i].error)
			fail(&units[i], error, stage, detail);
	report();
	return 0;
}

int load(struct kernel *kernel, const struct span_options *options)
{
	struct bpf_object *object;
	struct bpf_program *program;
	size_t refused = 0;
	int error;

	memset(kernel, 0, sizeof(*kernel));
	kernel->tls = -1;
	spans = options;
	libbpf_set_print(listen_to);
	if (access("/sys/kernel/btf/vmlinux", R_OK))
		return refuse(errno, "BTF", "/sys/kernel/btf/vmlinux cannot be read");
	object = open_object(NULL);
	if (!object)
		return refuse(errno, "open", said);
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, unit_of(program) && !unit_of(program)->instead_of);
	error = bpf_object__load(object);
	if (error) {
		bpf_object__close(object);
		examine();
		for (size_t i = 0; i < UNITS; i++)
			refused += units[i].error != 0;
		if (refused == UNITS) {
			report();
			return 0;
		}
		object = open_object(NULL);
		if (!object)
			return refuse(errno, "open", said);
		bpf_object__for_each_program(program, object) {
			struct unit *unit = unit_of(program);

			if (unit && (unit->error || is_spare(unit)))
				bpf_program__set_autoload(program, false);
		}
		error = bpf_object__load(object);
		if (error) {
			bpf_object__close(object);
			return refuse(error, "load", said);
		}
	}
#define FD(name) kernel->name = bpf_object__find_map_fd_by_name(object, #name)
	FD(controls);
	FD(edges);
	FD(folded);
	FD(rows);
	FD(listeners);
	FD(events);
	FD(conns);
	FD(h2s);
	FD(scratches);
	FD(zero_row);
	FD(lookups);
	FD(names);
	FD(spans);
	FD(slow_limits);
	FD(span_threads);
	FD(timings);
	FD(syncs);
	FD(tls_processes);
	FD(tls_sessions);
	FD(tls_sockets);
	FD(tls_threads);
	FD(tls_goroutines);
	FD(tls_h2s);
	kernel->object = object;
	attach(kernel, object);
	report();
	/* the kernel's BTF was read to relocate; give its memory back */
	malloc_trim(0);
	return kernel->programs;
}

int load_tls(struct kernel *kernel, char *reason, size_t size)
{
	struct bpf_object *object;
	struct bpf_program *program;
	struct bpf_map *map;
	int error;

	said[0] = 0;
	object = open_object(NULL);
	if (!object)
		return -errno;
	bpf_object__for_each_map(map, object) {
		struct bpf_map *ours = bpf_object__find_map_by_name(kernel->object, bpf_map__name(map));

		if (ours && bpf_map__fd(ours) >= 0)
			bpf_map__reuse_fd(map, bpf_map__fd(ours));
	}
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, strcmp(bpf_program__name(program), "tls_call") == 0);
	error = bpf_object__load(object);
	if (error) {
		fprintf(stderr, "probe: TLS: %s: %s\n", strerror(-error), said);
		snprintf(reason, size, "the kernel refuses the program: %s", strerror(-error));
		bpf_object__close(object);
		return error;
	}
	kernel->tls = fcntl(bpf_program__fd(bpf_object__find_program_by_name(object, "tls_call")), F_DUPFD_CLOEXEC, 0);
	bpf_object__close(object);
	malloc_trim(0);
	return 0;
}

int iterate(struct bpf_link *link)
{
	char drain[64];
	int fd = bpf_iter_create(bpf_link__fd(link)), error = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, drain, sizeof(drain))) > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		;
	if (n < 0)
		error = -errno;
	close(fd);
	return error;
}
