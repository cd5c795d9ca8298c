/* SPDX-License-Identifier: MIT */
#include "runs.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_PROGRAMS 32
/* after the first ticks, which are not like others */
#define FIRST 5

struct program {
	int fd;
	char name[17]; /* with its prefix it fits into a figure's name */
	uint64_t runs, ns; /* while measured */
	uint64_t runs_at, ns_at;
};

static struct program programs[MAX_PROGRAMS];
static size_t used;
static int counting = -1;
static uint64_t ticks, since, measured;

static void look(struct program *p, uint64_t *runs, uint64_t *ns)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);

	*runs = p->runs_at;
	*ns = p->ns_at;
	if (bpf_obj_get_info_by_fd(p->fd, &info, &size))
		return;
	*runs = info.run_cnt;
	*ns = info.run_time_ns;
}

void runs_add(int fd, const char *name)
{
	struct program *p = &programs[used];

	if (fd < 0 || used == MAX_PROGRAMS)
		return;
	p->fd = fd;
	snprintf(p->name, sizeof(p->name), "%s", name);
	/* a program that comes during a measurement has not run before */
	used++;
}

void runs_start(struct bpf_object *object)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object)
		runs_add(bpf_program__fd(program), bpf_program__name(program));
}

void runs_tick(uint64_t mono_ns)
{
	if (counting >= 0) {
		for (size_t i = 0; i < used; i++) {
			uint64_t runs, ns;

			look(&programs[i], &runs, &ns);
			programs[i].runs += runs - programs[i].runs_at;
			programs[i].ns += ns - programs[i].ns_at;
		}
		measured += mono_ns - since;
		close(counting);
		counting = -1;
	}
	if (ticks++ % RUNS_EVERY != FIRST)
		return;
	counting = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (counting < 0)
		return;
	since = mono_ns;
	for (size_t i = 0; i < used; i++)
		look(&programs[i], &programs[i].runs_at, &programs[i].ns_at);
}

void runs_say(void (*say)(const char *name, uint64_t value))
{
	char name[24];

	say("measuredUs", measured / 1000);
	for (size_t i = 0; i < used; i++) {
		if (!programs[i].runs)
			continue;
		snprintf(name, sizeof(name), "runs.%.17s", programs[i].name);
		say(name, programs[i].runs);
		snprintf(name, sizeof(name), "runNs.%.17s", programs[i].name);
		say(name, programs[i].ns);
	}
}
