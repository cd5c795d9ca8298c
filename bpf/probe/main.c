/* SPDX-License-Identifier: MIT */
/*
 * The probe: loads the BPF programs, and once a second writes what they counted to standard output. Child of the node
 * agent and the only process with BPF rights. Ends when standard input closes, on SIGTERM or SIGINT, when its parent or
 * its reader is gone. Where nothing can be observed it says why, in frames, and ends with status 0 after an end frame.
 */
#include "events.h"
#include "layout.h"
#include "load.h"
#include "names.h"
#include "nat.h"
#include "out.h"
#include "spans.h"
#include "tick.h"
#include "tls.h"
#include "../include/frames.h"
#include "../include/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ULL

static const char help[] =
	"probe: counts TCP connections and requests of this machine with eBPF\n"
	"\n"
	"  probe [OPTIONS]          load, then write binary frames to standard output once a second until standard input\n"
	"                           closes\n"
	"    --idle SECONDS         forget an edge that had no traffic and no connection for so long (180)\n"
	"    --patience SECONDS     take a request that has an id for given up after so long (120)\n"
	"    --no-spans             tell no requests\n"
	"    --sample N             tell one of N requests, N rounded up to a power of two (64); both ends choose the same\n"
	"    --sampled NUMBER       tell at most so many of these in a second (50)\n"
	"    --slow NUMBER          tell at most so many slow requests in a second (50)\n"
	"    --failed NUMBER        tell at most so many failed requests in a second (50)\n"
	"    --slow-ms MS           a request that takes longer is slow (500), where the agent says nothing else\n"
	"    --look SECONDS         look at all open files so often, for sockets that were missed and what listens (30)\n"
	"    --hooks=syscalls       see sends and receives at the end of system calls, as on kernels before 6.3\n"
	"    --no-tls               hook no program to read TLS\n"
	"    --tls-delay SECONDS    hook only programs that are so old (5)\n"
	"    --tls-budget PERCENT   of its CPU time that hooks may cost a program (5); 0: no limit\n"
	"  probe --tls-places FILE  print where a program or library would be hooked to read TLS\n"
	"  probe --tls-empty FILE   hook it there for all processes with a program that does nothing, until standard input\n"
	"                           closes: to measure what the traps alone cost\n"
	"  probe --verifier [--hooks=syscalls]\n"
	"                           print what each program costs the kernel's verifier, and what loading all of them costs\n"
	"  probe --layout           print the layout of the frames as JSON\n"
	"  probe --help             this text\n"
	"\n"
	"Needs Linux 5.17 or later with BTF, better 6.3, and root or CAP_BPF + CAP_PERFMON.\n";

static uint64_t mono(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + now.tv_nsec;
}

static int second_timer(void)
{
	struct itimerspec when = { .it_interval.tv_sec = 1 };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	when.it_value.tv_sec = mono() / SECOND + 1;
	if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL)) {
		fprintf(stderr, "probe: timer: %s\n", strerror(errno));
		exit(1);
	}
	return fd;
}

static int end_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void hello(void)
{
	struct frame_hello body = {
		.magic = FRAME_MAGIC,
		.major = FRAME_MAJOR,
		.minor = FRAME_MINOR,
		.buckets = BUCKETS,
		.pid = getpid(),
		.mono_ns = mono(),
	};

	out_frame(FRAME_HELLO, &body, sizeof(body));
}

/* The last words: waits for the reader, since there is nothing else to do. */
static int finish(void)
{
	struct frame_tick end = { .mono_ns = mono() };

	out_frame(FRAME_END, &end, sizeof(end));
	while (out_flush(STDOUT_FILENO) > 0) {
		struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };

		if (poll(&out, 1, 10000) <= 0)
			break;
	}
	return 0;
}

static int run(int signals, uint64_t look_every)
{
	int timer = second_timer();
	uint64_t started = mono() / SECOND;

	tick_files();
	for (;;) {
		struct pollfd on[] = {
			{ .fd = timer, .events = POLLIN },
			{ .fd = signals, .events = POLLIN },
			{ .fd = STDIN_FILENO, .events = POLLIN },
			{ .fd = STDOUT_FILENO, .events = out_left() ? POLLOUT : 0 },
			{ .fd = ring_fd(&event_ring), .events = POLLIN },
			{ .fd = ring_fd(&name_ring), .events = POLLIN },
			{ .fd = ring_fd(&span_ring), .events = POLLIN },
		};
		ssize_t n;
		uint64_t expired;
		char said[4096];

		if (poll(on, 7, -1) < 0 && errno != EINTR) {
			fprintf(stderr, "probe: poll: %s\n", strerror(errno));
			return 1;
		}
		if (on[1].revents || (on[3].revents & (POLLERR | POLLHUP | POLLNVAL)))
			return 0;
		if (on[2].revents) {
			n = read(STDIN_FILENO, said, sizeof(said));
			if (n <= 0)
				return 0;
			spans_command(said, n);
		}
		if (on[4].revents)
			ring_take(&event_ring);
		if (on[5].revents)
			ring_take(&name_ring);
		if (on[6].revents)
			ring_take(&span_ring);
		if (on[0].revents && read(timer, &expired, sizeof(expired)) == sizeof(expired)) {
			uint64_t now = mono(), tick = now / SECOND;

			/* sockets that were not accepted yet at start, and those that storage had no room for */
			if (tick - started <= 2 || tick % look_every == 0)
				tick_files();
			if (out_left())
				tick_skipped();
			else
				tick_build(tick, now);
		}
		if (out_flush(STDOUT_FILENO) < 0)
			return 0;
	}
}

int main(int argc, char **argv)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	struct kernel kernel;
	struct tls_options tls = { .delay = 5, .budget = 50 };
	struct span_options spans = { .shift = 6, .budget = { 50, 50, 50, 100 }, .slow_ms = 500 };
	enum hooks hooks = HOOKS_BEST;
	int signals, error, idle = 180, patience = 120, look = 30;

	if (argc == 2 && strcmp(argv[1], "--layout") == 0) {
		layout_print();
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "--tls-places") == 0)
		return tls_explain(argv[2]);
	if (argc == 3 && strcmp(argv[1], "--tls-empty") == 0)
		return tls_empty(argv[2]);
	if ((argc == 2 || argc == 3) && strcmp(argv[1], "--verifier") == 0)
		return load_explain(argc == 3 && strcmp(argv[2], "--hooks=syscalls") == 0 ? HOOKS_CALLS : HOOKS_BEST);
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(help, stdout);
		return 0;
	}
	for (int i = 1; i < argc; i++) {
		const char *value = argv[i + 1]; /* NULL at the end */
		char *end = NULL;
		double number = value ? strtod(value, &end) : -1;

		if (strcmp(argv[i], "--no-tls") == 0) {
			tls.off = 1;
			continue;
		}
		if (strcmp(argv[i], "--no-spans") == 0) {
			spans.off = 1;
			continue;
		}
		if (strcmp(argv[i], "--hooks=syscalls") == 0) {
			hooks = HOOKS_CALLS;
			continue;
		}
		if (!value || *end || !(number >= 0 && number < 1e6) || ((strcmp(argv[i], "--idle") == 0 || strcmp(argv[i], "--patience") == 0 || strcmp(argv[i], "--look") == 0) && number < 1)) {
			fputs(help, stderr);
			return 2;
		}
		if (strcmp(argv[i], "--idle") == 0) {
			idle = number;
		} else if (strcmp(argv[i], "--patience") == 0) {
			patience = number;
		} else if (strcmp(argv[i], "--look") == 0) {
			look = number;
		} else if (strcmp(argv[i], "--tls-delay") == 0) {
			tls.delay = number;
		} else if (strcmp(argv[i], "--tls-budget") == 0) {
			tls.budget = number * 10;
		} else if (strcmp(argv[i], "--sample") == 0) {
			for (spans.shift = 0; spans.shift < 15 && 1u << spans.shift < number;)
				spans.shift++;
		} else if (strcmp(argv[i], "--sampled") == 0) {
			spans.budget[SPAN_SAMPLED] = number;
		} else if (strcmp(argv[i], "--slow") == 0) {
			spans.budget[SPAN_SLOW] = number;
		} else if (strcmp(argv[i], "--failed") == 0) {
			spans.budget[SPAN_FAILED] = number;
		} else if (strcmp(argv[i], "--slow-ms") == 0) {
			spans.slow_ms = number;
		} else {
			fputs(help, stderr);
			return 2;
		}
		i++;
	}
	if (isatty(STDOUT_FILENO)) {
		fputs("probe: standard output is a terminal, but frames are binary\n", stderr);
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signals = end_signals();
	/* kernels before 5.11 count maps against this limit; elsewhere a refusal does not matter */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
	hello();
	if (load(&kernel, hooks, &spans) == 0)
		return finish();
	nat_start();
	tls_start(&kernel, &tls);
	error = tick_start(&kernel, idle, patience, &spans);
	if (error) {
		fprintf(stderr, "probe: maps: %s\n", strerror(-error));
		return 1;
	}
	out_flush(STDOUT_FILENO);
	return run(signals, look);
}
