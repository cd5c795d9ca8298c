/* SPDX-License-Identifier: MIT */
#include "layout.h"
#include "../include/frames.h"

#include <stddef.h>
#include <stdio.h>

#define BEGIN(name) printf("%s\"" #name "\":{\"size\":%zu", comma++ ? "," : "{", sizeof(struct frame_##name))
#define FIELD(name, member) printf(",\"" #member "\":%zu", offsetof(struct frame_##name, member))
#define END() printf("}")

void layout_print(void)
{
	int comma = 0;

	BEGIN(header);
	FIELD(header, length);
	FIELD(header, kind);
	END();
	BEGIN(hello);
	FIELD(hello, magic);
	FIELD(hello, major);
	FIELD(hello, minor);
	FIELD(hello, buckets);
	FIELD(hello, pid);
	FIELD(hello, mono_ns);
	END();
	BEGIN(capability);
	FIELD(capability, feature);
	FIELD(capability, state);
	FIELD(capability, error);
	FIELD(capability, reason);
	END();
	BEGIN(edge);
	FIELD(edge, id);
	FIELD(edge, netns);
	FIELD(edge, tgid);
	FIELD(edge, port);
	FIELD(edge, role);
	FIELD(edge, peer);
	FIELD(edge, local);
	END();
	BEGIN(tcp);
	FIELD(tcp, bytes_out);
	FIELD(tcp, bytes_in);
	FIELD(tcp, connect_ns);
	FIELD(tcp, rtt_us);
	FIELD(tcp, edge);
	FIELD(tcp, opens);
	FIELD(tcp, failed);
	FIELD(tcp, closes);
	FIELD(tcp, active);
	FIELD(tcp, retransmits);
	FIELD(tcp, rtt_count);
	END();
	BEGIN(l7);
	FIELD(l7, sum_ns);
	FIELD(l7, edge);
	FIELD(l7, count);
	FIELD(l7, protocol);
	FIELD(l7, status);
	FIELD(l7, detail);
	END();
	BEGIN(hist);
	FIELD(hist, row);
	FIELD(hist, count);
	FIELD(hist, bucket);
	END();
	BEGIN(pending);
	FIELD(pending, oldest_ns);
	FIELD(pending, edge);
	FIELD(pending, count);
	FIELD(pending, protocol);
	END();
	BEGIN(pair);
	FIELD(pair, edge);
	FIELD(pair, port);
	FIELD(pair, ip);
	END();
	BEGIN(event);
	FIELD(event, mono_ns);
	FIELD(event, cgroup);
	FIELD(event, memory_cgroup);
	FIELD(event, rss_bytes);
	FIELD(event, anon_bytes);
	FIELD(event, shmem_bytes);
	FIELD(event, kind);
	FIELD(event, pid);
	FIELD(event, ppid);
	FIELD(event, code);
	FIELD(event, comm);
	FIELD(event, filename);
	END();
	BEGIN(name);
	FIELD(name, mono_ns);
	FIELD(name, edge);
	FIELD(name, latency_us);
	FIELD(name, length);
	FIELD(name, type);
	FIELD(name, status);
	FIELD(name, rcode);
	FIELD(name, data);
	END();
	BEGIN(span);
	FIELD(span, t0);
	FIELD(span, ns);
	FIELD(span, socket);
	FIELD(span, parent);
	FIELD(span, edge);
	FIELD(span, tgid);
	FIELD(span, thread);
	FIELD(span, seq);
	FIELD(span, initial);
	FIELD(span, weight);
	FIELD(span, count);
	FIELD(span, length);
	FIELD(span, reply_length);
	FIELD(span, proto);
	FIELD(span, status);
	FIELD(span, classes);
	FIELD(span, role);
	FIELD(span, head);
	FIELD(span, reply);
	END();
	BEGIN(io);
	FIELD(io, owner);
	FIELD(io, bytes);
	FIELD(io, sum_ns);
	FIELD(io, device);
	FIELD(io, count);
	FIELD(io, errors);
	FIELD(io, what);
	END();
	BEGIN(self);
	FIELD(self, name);
	FIELD(self, value);
	END();
	BEGIN(tls);
	FIELD(tls, connections);
	FIELD(tls, tgid);
	FIELD(tls, state);
	FIELD(tls, reason);
	END();
	BEGIN(tick);
	FIELD(tick, tick);
	FIELD(tick, mono_ns);
	END();
	printf("}\n");
}
