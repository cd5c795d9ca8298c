/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
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
#include <sys/resource.h>
#include <sys/stat.h>
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
	enum { ANY, SOCKETS, CALLS } with; /* hooks of sends and receives that it goes with */
	int error;
	char reason[152];
};

static struct unit units[] = {
	{ "sock_send", "requests.send", "requests are not counted", NULL, SOCKETS, 0, "" },
	{ "sock_receive", "requests.receive", "requests are not counted", NULL, SOCKETS, 0, "" },
	{ "sock_walk", "requests.read", "requests are not counted", NULL, SOCKETS, 0, "" },
	{ "call_walk", "requests.read", "requests are not counted", NULL, CALLS, 0, "" },
	{ "call_datagrams", "requests.datagrams", "DNS over UDP is not counted", NULL, CALLS, 0, "" },
	{ "tcp_gone", "connections.gone", "what is known of closed connections takes its room", NULL, CALLS, 0, "" },
	{ "call_done", "requests.calls", "requests are not counted (needs kernel 5.17 with BTF)", NULL, CALLS, 0, "" },
	{ "tcp_state", "connections", "connections are not seen", NULL, ANY, 0, "" },
	{ "tcp_reset", "connections.resets", "resets that are sent are not counted", NULL, ANY, 0, "" },
	{ "each_connection", "connections.live", "bytes, round trips and waiting requests are not read", NULL, SOCKETS, 0, "" },
	{ "each_socket", "connections.live", "bytes, round trips and waiting requests are not read", "each_connection", ANY, 0, "" },
	{ "each_file", "connections.older", "connections older than the probe are not seen", NULL, ANY, 0, "" },
	{ "process_exec", "process.exec", "starts of processes are not seen", NULL, ANY, 0, "" },
	{ "process_exit", "process.exit", "ends of processes are not seen", NULL, ANY, 0, "" },
	{ "oom_victim", "process.oom", "kills for memory are not seen (needs kernel 6.9)", NULL, ANY, 0, "" },
	{ "block_done", "disk.requests", "requests of disks are not timed", NULL, ANY, 0, "" },
	{ "sync_start", "files.sync", "fsync is not timed (ext4 only)", NULL, ANY, 0, "" },
	{ "sync_done", "files.sync.end", "fsync is not timed (ext4 only)", NULL, ANY, 0, "" },
};
#define UNITS (sizeof(units) / sizeof(units[0]))
#define LOG (256 * 1024)
#define BTF "/sys/kernel/btf/vmlinux"

/* The attach type of programs for many places in a file, which the library may be too old to have a name for. */
#define UPROBE_MULTI 48
/* The verifier tells only what it took, in a few lines. */
#define LOG_STATS 4

static char said[152];
static int calls; /* the hooks of sends and receives are system calls */
static char why[100]; /* they are */

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

static const struct span_options usual = { .shift = 6 };
static const struct span_options *spans = &usual;

static void set_constants(struct bpf_object *object)
{
	const uint32_t words[] = { !spans->off, spans->shift };
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), ".rodata.config"))
			bpf_map__set_initial_value(map, words, sizeof(words));
}

/* Tells the programs how connections are kept, and makes no room for those of the other way. */
static void choose(struct bpf_object *object)
{
	struct bpf_map *way = bpf_object__find_map_by_name(object, ".rodata.hooks");
	struct bpf_map *sockets = bpf_object__find_map_by_name(object, "sockets");
	const unsigned by_address = calls;

	if (way)
		bpf_map__set_initial_value(way, &by_address, sizeof(by_address));
	if (sockets && !calls)
		bpf_map__set_max_entries(sockets, 1);
}

static struct bpf_object *open_object(char *log)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "coroot", .kernel_log_buf = log,
		    .kernel_log_size = log ? LOG : 0, .kernel_log_level = log ? 1 : 0);

	struct bpf_object *object = bpf_object__open_mem(object_start, object_end - object_start, &opts);
	struct bpf_program *program = object ? bpf_object__find_program_by_name(object, "tls_call") : NULL;

	if (!object)
		return NULL;
	set_constants(object);
	if (program) {
		bpf_program__set_expected_attach_type(program, UPROBE_MULTI);
		bpf_program__set_autoload(program, false);
	}
	choose(object);
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

static int goes_with(const struct unit *unit)
{
	return unit->with == ANY || unit->with == (calls ? CALLS : SOCKETS);
}

/* Not needed: of the other way, or its place is taken by the program that it stands in for. */
static int is_spare(const struct unit *unit)
{
	const struct unit *first = unit_named(unit->instead_of);

	return !goes_with(unit) || (first && goes_with(first) && !first->error);
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
	const struct unit *connections = unit_named("tcp_state");
	int fd;

	/* without connections there is nothing to bind it to */
	if (connections->error) {
		c.error = connections->error;
		snprintf(c.reason, sizeof(c.reason), "TLS is not read; %.120s", connections->reason);
	} else {
		fd = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tls_try", "GPL", nothing, 2, &opts);
		if (fd < 0) {
			c.error = errno;
			snprintf(c.reason, sizeof(c.reason), "TLS is not read (needs kernel 6.6); load: %s", strerror(errno));
		} else {
			close(fd);
		}
	}
	c.state = c.error ? STATE_OFF : STATE_ON;
	out_frame(FRAME_CAPABILITY, &c, sizeof(c));
}

static void report(void)
{
	for (size_t i = 0; i < UNITS; i++) {
		int error = units[i].error;
		struct frame_capability c = {};

		if (!goes_with(&units[i]) || is_spare(&units[i]))
			continue;
		for (size_t j = 0; j < UNITS; j++)
			if (units[j].instead_of && unit_named(units[j].instead_of) == &units[i] && !units[j].error)
				error = 0;
		c.state = error ? STATE_OFF : STATE_ON;
		c.error = error;
		snprintf(c.feature, sizeof(c.feature), "%s", units[i].feature);
		if (error)
			snprintf(c.reason, sizeof(c.reason), "%.70s; %.78s", units[i].without, units[i].reason);
		if (!error && strcmp(units[i].program, "call_done") == 0) {
			c.state = STATE_DEGRADED;
			snprintf(c.reason, sizeof(c.reason), "seen at the end of system calls, which all pay for: %.95s", why);
		}
		out_frame(FRAME_CAPABILITY, &c, sizeof(c));
	}
	report_tls();
}

/* Where the hooks find the program, if they call it; else -1. */
static int place_of(const struct unit *unit)
{
	if (strcmp(unit->program, "sock_walk") == 0 || strcmp(unit->program, "call_walk") == 0)
		return 0;
	return strcmp(unit->program, "call_datagrams") == 0 ? 1 : -1;
}

static int attach(struct kernel *kernel, struct bpf_object *object)
{
	struct bpf_program *program;
	int place;

	bpf_object__for_each_program(program, object) {
		struct unit *unit = unit_of(program);
		struct bpf_link *link;

		if (!unit || unit->error || is_spare(unit))
			continue;
		said[0] = 0;
		place = place_of(unit);
		if (place >= 0) {
			const int fd = bpf_program__fd(program);

			/* it is never attached, but called by the hooks */
			if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "walkers"), &place, &fd, BPF_ANY))
				fail(unit, errno, "tail call", "");
			continue;
		}
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
		else if (kernel->programs < (int)(sizeof(kernel->program_fds) / sizeof(kernel->program_fds[0])))
			kernel->program_fds[kernel->programs++] = bpf_program__fd(program);
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

/* Whether the kernel has what sends and receives are best seen by. Its names are read, since its types cost more. */
static int has_tracepoints(void)
{
	static const char name[] = "btf_trace_sock_send_length";
	int fd = open(BTF, O_RDONLY | O_CLOEXEC), found = 0;
	struct stat at;
	char *types;
	ssize_t n, have = 0;

	if (fd < 0 || fstat(fd, &at) || !(types = malloc(at.st_size))) {
		close(fd);
		return 1;
	}
	while (have < at.st_size && (n = read(fd, types + have, at.st_size - have)) > 0)
		have += n;
	found = memmem(types, have, name, sizeof(name)) != NULL;
	free(types);
	close(fd);
	return found;
}

/* Opens what this kernel does not refuse, as far as we know. */
static struct bpf_object *open_rest(void)
{
	struct bpf_object *object = open_object(NULL);
	struct bpf_program *program;

	if (object)
		bpf_object__for_each_program(program, object) {
			struct unit *unit = unit_of(program);

			bpf_program__set_autoload(program, unit && !unit->error && !is_spare(unit));
		}
	return object;
}

/* Goes over to system calls where the kernel refuses the sockets' tracepoints, but not those. */
static void turn_to_calls(void)
{
	const struct unit *send = unit_named("sock_send"), *receive = unit_named("sock_receive"), *walk = unit_named("sock_walk");
	struct unit *call = unit_named("call_done");

	if (calls || !(send->error || receive->error || walk->error))
		return;
	calls = 1;
	if (load_alone(call, NULL) || load_alone(unit_named("call_walk"), NULL)) {
		calls = 0;
		return;
	}
	snprintf(why, sizeof(why), "%.99s", send->error ? send->reason : receive->error ? receive->reason : walk->reason);
	for (size_t i = 0; i < UNITS; i++)
		if (units[i].with == ANY)
			units[i].error = 0;
	examine();
}

static unsigned cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

int load(struct kernel *kernel, enum hooks hooks, const struct span_options *options)
{
	const unsigned before = cpu_us();
	struct bpf_object *object;
	int error;

	memset(kernel, 0, sizeof(*kernel));
	kernel->tls = -1;
	spans = options;
	libbpf_set_print(listen_to);
	if (access(BTF, R_OK))
		return refuse(errno, "BTF", BTF " cannot be read");
	calls = hooks == HOOKS_CALLS || !has_tracepoints();
	if (calls)
		snprintf(why, sizeof(why), "%s", hooks == HOOKS_CALLS ? "asked for" : "kernel before 6.3");
	object = open_rest();
	if (!object)
		return refuse(errno, "open", said);
	error = bpf_object__load(object);
	if (error) {
		size_t left = 0;

		bpf_object__close(object);
		examine();
		turn_to_calls();
		for (size_t i = 0; i < UNITS; i++)
			left += !units[i].error && !is_spare(&units[i]);
		if (!left) {
			report();
			return 0;
		}
		object = open_rest();
		if (!object)
			return refuse(errno, "open", said);
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
	FD(mounts);
	FD(events);
	FD(conns);
	FD(sockets);
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
	kernel->load_us = cpu_us() - before;
	return kernel->programs;
}

int load_explain(enum hooks hooks)
{
	static char log[LOG];
	unsigned sum = 0;
	struct kernel kernel;

	libbpf_set_print(listen_to);
	calls = hooks == HOOKS_CALLS;
	printf("program            instructions   us\n");
	for (size_t i = 0; i < UNITS; i++) {
		struct bpf_object *object = open_object(NULL);
		struct bpf_program *program;
		unsigned us = 0, seen = 0;
		const char *at;
		int error;

		if (!object)
			return 1;
		log[0] = 0;
		bpf_object__for_each_program(program, object)
			bpf_program__set_autoload(program, goes_with(&units[i]) && unit_of(program) == &units[i]);
		program = bpf_object__find_program_by_name(object, units[i].program);
		bpf_program__set_log_level(program, LOG_STATS);
		bpf_program__set_log_buf(program, log, sizeof(log));
		error = bpf_object__load(object);
		bpf_object__close(object);
		if (!goes_with(&units[i]))
			continue;
		if ((at = strstr(log, "verification time ")))
			sscanf(at, "verification time %u", &us);
		if ((at = strstr(log, "processed ")))
			sscanf(at, "processed %u", &seen);
		sum += us;
		printf("%-18s %12u %8u%s%s\n", units[i].program, seen, us, error ? "  " : "", error ? strerror(-error) : "");
	}
	load(&kernel, hooks, &usual);
	printf("all, one by one    %12s %8u\nloading, CPU time  %12s %8u\n", "", sum, "", kernel.load_us);
	return 0;
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

unsigned long long runs_missed(const struct kernel *kernel)
{
	unsigned long long missed = 0;

	for (int i = 0; i < kernel->programs; i++) {
		struct bpf_prog_info info = {};
		uint32_t size = sizeof(info);

		if (bpf_obj_get_info_by_fd(kernel->program_fds[i], &info, &size) == 0)
			missed += info.recursion_misses;
	}
	return missed;
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
