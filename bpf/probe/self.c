/* SPDX-License-Identifier: MIT */
#include "self.h"
#include "events.h"
#include "names.h"
#include "nat.h"
#include "out.h"
#include "runs.h"
#include "spans.h"
#include "tls.h"
#include "../include/frames.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t memory_of(int fd)
{
	char path[64], line[128];
	unsigned long long bytes = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "memlock: %llu", &bytes) == 1)
			break;
	fclose(file);
	return bytes;
}

static uint64_t resident(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file)
		return 0;
	if (fscanf(file, "%*u %llu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

static void self(const char *name, uint64_t value)
{
	struct frame_self *row = out_row(sizeof(*row));

	strncpy(row->name, name, sizeof(row->name) - 1);
	row->value = value;
}

void self_send(const struct kernel *k, const struct control *ctl, const struct figures *f)
{
	static uint64_t kernel_bytes;
	struct tls_figures tls = tls_figures();
	struct nat_figures nat = nat_figures();
	struct rusage usage;

	if (f->built % 10 == 1)
		kernel_bytes = memory_of(k->edges) + memory_of(k->folded) + memory_of(k->rows) + memory_of(k->listeners) + memory_of(k->mounts) +
			       memory_of(k->events) + memory_of(k->conns) + memory_of(k->sockets) + memory_of(k->h2s) + memory_of(k->controls) +
			       memory_of(k->scratches) + memory_of(k->zero_row) + memory_of(k->lookups) + memory_of(k->timings) + memory_of(k->syncs) +
			       memory_of(k->names) + memory_of(k->spans) + memory_of(k->slow_limits) + memory_of(k->span_threads) + memory_of(k->tls_processes) + memory_of(k->tls_sessions) +
			       memory_of(k->tls_sockets) + memory_of(k->tls_threads) + memory_of(k->tls_goroutines) + memory_of(k->tls_h2s);
	getrusage(RUSAGE_SELF, &usage);
	out_begin(FRAME_SELF);
	self("edges", f->edges);
	self("edgesMax", MAX_EDGES);
	self("rows", f->rows);
	self("rowsMax", MAX_ROWS);
	self("connections", f->connections);
	self("evicted", f->evicted);
	self("edgesRefused", ctl->edge_full);
	self("rowsRefused", ctl->row_full);
	self("storageRefused", ctl->storage_full);
	self("fifoOverflows", ctl->fifo_overflow);
	self("desyncs", ctl->desync);
	self("unmatched", ctl->unmatched);
	self("votesLost", ctl->votes_lost);
	self("faults", ctl->fault);
	self("stepLimits", ctl->step_limit);
	self("blindChunks", ctl->blind);
	self("waitsByDesign", ctl->waits);
	self("givenUp", ctl->given_up);
	self("eventsLost", ctl->event_lost + event_ring.lost);
	self("lookupsRefused", ctl->lookup_full);
	self("lookupsUnmatched", ctl->lookup_unmatched);
	self("namesLost", ctl->names_over + name_ring.lost);
	self("spansSampledOver", ctl->span_over[SPAN_SAMPLED]);
	self("spansSlowOver", ctl->span_over[SPAN_SLOW]);
	self("spansFailedOver", ctl->span_over[SPAN_FAILED]);
	self("statementsOver", ctl->span_over[SPAN_STATEMENT]);
	self("spansHeadless", ctl->span_headless);
	self("spansLost", ctl->span_full + span_ring.lost);
	self("lookups", f->lookups);
	self("lookupsMax", MAX_LOOKUPS);
	self("timings", f->timings);
	self("timingsMax", MAX_TIMINGS);
	self("timingsRefused", ctl->timing_full);
	self("timingsLost", ctl->timing_lost);
	self("tlsProcesses", tls.processes);
	self("tlsRead", tls.read);
	self("tlsFiles", tls.files);
	self("tlsLinks", tls.links);
	self("tlsLinksRefused", tls.refused);
	self("tlsTraps", tls.traps);
	self("tlsSlowTraps", tls.slow_traps);
	self("tlsTrapNs", tls.trap_ns);
	self("tlsSlowTrapNs", tls.slow_trap_ns);
	self("tlsRefused", ctl->tls_full);
	self("tlsUnbound", ctl->tls_unbound);
	self("tlsRebound", ctl->tls_rebound);
	self("mountsRefused", ctl->mount_full);
	self("runsMissed", runs_missed(k));
	self("natAsked", nat.asked);
	self("natTranslated", nat.translated);
	self("natFailed", nat.failed);
	self("natDropped", nat.dropped);
	self("unknownBytes", ctl->unknown_bytes);
	self("tlsBlindBytes", ctl->tls_blind_bytes);
	self("readErrors", f->read_errors);
	self("ticksSkipped", f->skipped);
	self("frames", out_frames());
	self("bytes", out_bytes());
	self("kernelBytes", kernel_bytes);
	self("loadUs", k->load_us);
	self("rssBytes", resident());
	self("cpuUs", (uint64_t)usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec +
			      (uint64_t)usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec);
	runs_say(self);
	out_end();
}
