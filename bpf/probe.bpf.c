/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* One object out of all hook groups. They share maps and helpers, and the loader picks which programs to load. */
#include "include/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "include/shared.h"

#define NULL ((void *)0)
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define RCV_SHUTDOWN 1
#define E2BIG 7
#define EPIPE 32
#define ENETUNREACH 101
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTDOWN 112
#define EHOSTUNREACH 113
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LISTEN = 10,
};

#include "lib/conn.h"
#include "maps/maps.h"
#include "lib/control.h"
#include "lib/histogram.h"
#include "lib/edge.h"
#include "lib/kept.h"
#include "lib/fifo.h"
#include "lib/slots.h"
#include "lib/stream.h"
#include "lib/redis.h"
#include "lib/redis_simple.h"
#include "lib/postgres.h"
#include "lib/mysql.h"
#include "lib/memcached.h"
#include "lib/dns.h"
#include "lib/framed.h"
#include "lib/nats.h"
#include "lib/amqp.h"
#include "lib/clickhouse.h"
#include "lib/http.h"
#include "lib/span.h"
#include "lib/h2.h"
#include "lib/tls.h"
#include "lib/walk.h"
#include "socket.bpf.c"
#include "call.bpf.c"
#include "tls.bpf.c"
#include "state.bpf.c"
#include "iterate.bpf.c"
#include "process.bpf.c"
#include "block.bpf.c"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
