/* SPDX-License-Identifier: MIT */
/*
 * Frames from the probe to the node agent, on the probe's standard output. Little-endian; a header of 8 bytes (u32 length
 * of the body, u16 kind, u16 zero), then the body: an array of one of the structs below. Padding rule: members in natural
 * alignment, every hole named, every struct a multiple of 4 bytes. `probe --layout` prints offsets for the decoder's spec.
 */
#ifndef COROOT_FRAMES_H
#define COROOT_FRAMES_H

#include <stdint.h>

#define FRAME_MAGIC 0x31425250u /* "PRB1" */
#define FRAME_MAJOR 1
#define FRAME_MINOR 1

enum frame_kind {
	FRAME_HELLO = 1,
	FRAME_CAPABILITY = 2,
	FRAME_EDGE = 3,
	FRAME_GONE = 4,
	FRAME_TCP = 5,
	FRAME_L7 = 6,
	FRAME_HIST = 7,
	FRAME_PENDING = 8,
	FRAME_PAIR = 9,
	FRAME_EVENT = 10,
	FRAME_SELF = 11,
	FRAME_TICK = 12,
	/* nothing can be observed here: the probe ends and a restart would not help */
	FRAME_END = 13,
	FRAME_NAME = 14,
	FRAME_IO = 15,
	FRAME_IO_HIST = 16, /* as FRAME_HIST, of the rows of FRAME_IO */
	/* the complete list of processes that speak TLS, when it has changed */
	FRAME_TLS = 20,
	FRAME_TROUBLE = 21,
	FRAME_NAT = 22,
	/* all ports that are listened on, when they were looked at */
	FRAME_LISTEN = 23,
	FRAME_SPAN = 24,
	/* all mounts that are written to, when open files were looked at */
	FRAME_MOUNT = 25,
};

enum capability_state { STATE_OFF = 0, STATE_ON = 1, STATE_DEGRADED = 2 };

struct frame_header {
	uint32_t length;
	uint16_t kind;
	uint16_t zero;
};

struct frame_hello {
	uint32_t magic;
	uint16_t major;
	uint16_t minor;
	uint32_t buckets;
	uint32_t pid;
	uint64_t mono_ns;
};

struct frame_capability {
	char feature[32];
	uint32_t state;
	int32_t error; /* errno, 0 where it is on */
	char reason[152];
};

struct frame_edge {
	uint32_t id;
	uint32_t netns;
	uint32_t tgid;
	uint16_t port;
	uint8_t role;
	uint8_t pad;
	uint8_t peer[16];
	uint8_t local[16];
};

struct frame_tcp {
	uint64_t bytes_out;
	uint64_t bytes_in;
	uint64_t connect_ns;
	uint64_t rtt_us;
	uint32_t edge;
	uint32_t opens;
	uint32_t failed;
	uint32_t closes;
	uint32_t active;
	uint32_t retransmits;
	uint32_t rtt_count;
	uint32_t pad;
};

/* What went wrong with connections, and how often; most edges never have such a row. */
struct frame_trouble {
	uint32_t edge;
	uint32_t count;
	uint8_t kind; /* as TROUBLES in schemas/wire/observe.ts */
	uint8_t pad;
	uint16_t pad2;
};

struct frame_l7 {
	uint64_t sum_ns;
	uint32_t edge;
	uint32_t count; /* the histogram's sum, and messages that have no latency */
	uint8_t protocol;
	uint8_t status;
	uint16_t detail; /* as row_key.detail in shared.h */
	uint32_t pad;
};

struct frame_hist {
	uint32_t row; /* index among the tick's l7 rows */
	uint32_t count;
	uint8_t bucket;
	uint8_t pad;
	uint16_t pad2;
};

struct frame_pending {
	uint64_t oldest_ns;
	uint32_t edge;
	uint32_t count;
	uint8_t protocol;
	uint8_t pad;
	uint16_t pad2;
	uint32_t pad3;
};

struct frame_pair {
	uint32_t edge;
	uint16_t port;
	uint16_t pad;
	uint8_t ip[16];
};

/* Where connections of a client's edge really go, when that has changed; what was dialled: they are not translated. */
struct frame_nat {
	uint32_t edge;
	uint16_t port;
	uint16_t pad;
	uint8_t ip[16];
};

struct frame_listen {
	uint32_t netns;
	uint32_t queue; /* connections that wait to be accepted */
	uint32_t limit;
	uint32_t drops; /* connections that were dropped since the look before */
	uint16_t port;
	uint16_t pad;
};

struct frame_mount {
	uint32_t tgid; /* 0 in the one row of an empty list */
	uint32_t mount; /* as in the first column of /proc/PID/mountinfo */
};

struct frame_event {
	uint64_t mono_ns;
	uint64_t cgroup;
	uint64_t memory_cgroup;
	uint64_t rss_bytes; /* of a victim: anonymous, shared and files' pages */
	uint64_t anon_bytes;
	uint64_t shmem_bytes;
	uint32_t kind; /* 1 exec, 2 exit, 3 out of memory */
	uint32_t pid;
	uint32_t ppid;
	uint32_t code; /* as of wait(2): signal in the low 7 bits, exit code in the next byte */
	char comm[16];
	char filename[128];
};

struct frame_name {
	uint64_t mono_ns;
	uint32_t edge;
	uint32_t latency_us;
	uint16_t length; /* bytes of data */
	uint16_t type;
	uint8_t status;
	uint8_t rcode;
	uint16_t pad;
	uint8_t data[488]; /* head of a DNS message */
};

/* A request that was sampled, slow or failed, or that prepared a statement; see span_event in shared.h. */
struct frame_span {
	uint64_t t0;
	uint64_t ns;
	uint64_t socket;
	uint64_t parent;
	uint32_t edge;
	uint32_t tgid;
	uint32_t thread;
	uint32_t seq;
	uint32_t initial[2];
	uint32_t weight;
	uint32_t count;
	uint32_t inserted;
	uint32_t pad;
	uint16_t length;
	uint16_t reply_length;
	uint8_t proto;
	uint8_t status;
	uint8_t classes; /* 1 sampled, 2 slow, 4 failed, 8 statement */
	uint8_t role;
	uint8_t head[512];
	uint8_t reply[128];
};

struct frame_io {
	uint64_t owner; /* id of a cgroup; of an fsync the process; 0 where not known */
	uint64_t bytes;
	uint64_t sum_ns;
	uint32_t device; /* major << 20 | minor */
	uint32_t count;
	uint32_t errors;
	uint8_t what; /* 0 read, 1 write, 2 flush, 3 discard, 4 fsync */
	uint8_t pad;
	uint16_t pad2;
};

struct frame_self {
	char name[24];
	uint64_t value;
};

enum tls_state {
	TLS_WAITING = 0, /* too young */
	TLS_READ = 1,
	TLS_UNREADABLE = 2,
	TLS_OPTED_OUT = 3,
	TLS_OVER = 4, /* over its budget for hooks, for a while */
};

struct frame_tls {
	uint64_t connections;
	uint32_t tgid; /* 0 in the one row of an empty list */
	uint32_t state;
	char reason[64]; /* library that is read, or why not */
};

struct frame_tick {
	uint64_t tick;
	uint64_t mono_ns;
};

#endif
