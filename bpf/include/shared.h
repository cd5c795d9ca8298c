/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * What the kernel side and the loader share: keys and values of the maps, and their bounds. Fixed-width members in
 * natural alignment with every hole named, so that both compilers lay them out alike.
 */
#ifndef COROOT_SHARED_H
#define COROOT_SHARED_H

#define MAX_EDGES 8192
#define MAX_FOLDED 1024
#define MAX_ROWS 16384
#define MAX_LISTENERS 4096
#define EVENT_RING (256 * 1024)
#define BUCKETS 108
#define RUNS 32
#define PAIRS 4
/* channels of a RabbitMQ connection that are told apart */
#define LANES 8
#define LOOKAHEAD 32
/* steps of a walker over one chunk, after which the connection counts as lost */
#define MAX_STEPS 16384
/* first messages after a turn that look like no protocol we know, after which we stop looking */
#define MAX_MISSES 8

enum { ROLE_CLIENT = 0, ROLE_SERVER = 1 };
/* as PROTOCOLS in schemas/wire/observe.ts; a power of two is the bound */
enum {
	PROTO_NONE = 0,
	PROTO_HTTP = 1,
	PROTO_POSTGRES = 2,
	PROTO_REDIS = 3,
	PROTO_MYSQL = 4,
	PROTO_MEMCACHED = 5,
	PROTO_NATS = 6,
	PROTO_ZOOKEEPER = 7,
	PROTO_MONGODB = 8,
	PROTO_KAFKA = 9,
	PROTO_CASSANDRA = 10,
	PROTO_RABBITMQ = 11,
	PROTO_DUBBO = 12,
	PROTO_CLICKHOUSE = 13,
	PROTO_FOUNDATIONDB = 14,
	PROTOCOLS = 16,
};
/* STATUS_NONE is for what is not written down, since the protocol is only guessed */
enum { STATUS_OK = 0, STATUS_REJECTED = 1, STATUS_FAILED = 2, STATUS_UNANSWERED = 3, STATUS_NONE = 255 };
enum { EVENT_EXEC = 1, EVENT_EXIT = 2, EVENT_OOM = 3 };

/* Client: owner process, dialled address and port. Server: dialled address, listening port, caller; tgid is 0. */
struct edge_key {
	unsigned int netns;
	unsigned int tgid;
	unsigned char role;
	unsigned char pad;
	unsigned short port;
	unsigned char peer[16];
	unsigned char local[16];
};

struct edge_pair {
	unsigned char ip[16];
	unsigned short port;
	unsigned short pad;
};

/* Everything but tick, active, waiting and oldest only grows; the loader keeps what it has sent and sends the rest. */
struct edge {
	unsigned int id;
	unsigned int tgid;
	unsigned int opens;
	unsigned int failed;
	unsigned int closes;
	unsigned int retransmits;
	unsigned int rtt_count;
	unsigned int pair_count;
	unsigned long long out;
	unsigned long long in;
	unsigned long long connect_ns;
	unsigned long long rtt_us;
	/* gauges, valid when tick is the current one */
	unsigned int tick;
	unsigned int active;
	unsigned int waiting[PROTOCOLS];
	unsigned long long oldest_ns[PROTOCOLS];
	struct edge_pair pairs[PAIRS];
};

struct row_key {
	unsigned int edge;
	unsigned char proto;
	unsigned char status;
	unsigned short pad;
};

/* `untimed` are messages that nothing answers: in the count, in no bucket. */
struct row {
	unsigned long long sum_ns;
	unsigned int untimed;
	unsigned int pad;
	unsigned int hist[BUCKETS];
};

struct listener_key {
	unsigned int netns;
	unsigned int port;
};

/* One shared cell of control values and counters. Everything from edge_full on is a counter that only grows. */
struct control {
	unsigned int next_edge;
	unsigned int tick;
	unsigned int pass;
	unsigned int self_tgid;
	unsigned long long patience_ns; /* after which a request that has an id is given up */
	unsigned long long edge_full;
	unsigned long long row_full;
	unsigned long long storage_full;
	unsigned long long fifo_overflow;
	unsigned long long desync;
	unsigned long long unmatched;
	unsigned long long votes_lost;
	unsigned long long fault;
	unsigned long long step_limit;
	unsigned long long blind;
	unsigned long long event_lost;
	unsigned long long waits;
	unsigned long long given_up;
};

struct event {
	unsigned long long mono_ns;
	unsigned long long cgroup;
	unsigned long long memory_cgroup;
	unsigned long long rss;
	unsigned int kind;
	unsigned int pid;
	unsigned int ppid;
	unsigned int code;
	char comm[16];
	char filename[128];
};

#endif
