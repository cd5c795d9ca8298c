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
#define MAX_MOUNTS 4096
#define MAX_SOCKETS 65536
#define EVENT_RING (256 * 1024)
#define MAX_LOOKUPS 8192
#define MAX_TIMINGS 4096
#define MAX_SYNCS 4096
#define NAME_RING (512 * 1024)
/* answers of which the agent is told each second; the rest are counted without their names */
#define NAMES_PER_TICK 1000
#define NAME_HEAD 488
#define QUESTION 128
#define SPAN_RING (1024 * 1024)
/* bytes of a request and of its answer that a span is made of, and one; powers of two */
#define HEAD 512
#define REPLY 128
#define SPAN_THREADS 16384
#define BUCKETS 108
#define MAX_TLS_PROCESSES 1024
#define MAX_TLS_SESSIONS 8192
#define MAX_TLS_GOROUTINES 16384
#define RUNS 32
#define PAIRS 4
/* channels of a RabbitMQ connection that are told apart */
#define LANES 8
#define LOOKAHEAD 32
/* open streams of an HTTP/2 connection, and entries of a table of its headers, that are known one by one */
#define H2_STREAMS 128
#define H2_TABLE 128
/* steps of a walker over one chunk, after which the connection counts as lost */
#define MAX_STEPS 16384
/* first messages after a turn that look like no protocol we know, after which we stop looking */
#define MAX_MISSES 8

enum { ROLE_CLIENT = 0, ROLE_SERVER = 1 };
/* as PROTOCOLS in schemas/wire/observe.ts */
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
	PROTO_DNS = 15,
	PROTO_GRPC = 16,
	/* they are numbered from 1 to here; a power of two is the bound, see place_of */
	PROTOCOLS = 16,
	/* of a connection, never of a row: its streams are HTTP or gRPC */
	PROTO_HTTP2 = 32,
};
/* as STATUS in schemas/wire/observe.ts */
enum {
	STATUS_OK = 0,
	STATUS_REJECTED = 1,
	STATUS_FAILED = 2,
	STATUS_UNANSWERED = 3,
	STATUS_UNKNOWN = 4, /* an answer whose status could not be read */
	STATUSES = 5,
	STATUS_NONE = 255, /* not written down, since the protocol is only guessed */
};
/* as TROUBLES in schemas/wire/observe.ts: why a connect failed, where that is known, and what became of connections */
enum {
	TROUBLE_REFUSED = 0,
	TROUBLE_TIMED_OUT = 1,
	TROUBLE_UNREACHABLE = 2,
	TROUBLE_RESET = 3, /* by the other end */
	TROUBLE_RESET_SENT = 4,
	TROUBLE_LOST = 5, /* the other end did not answer any more */
	TROUBLES = 6,
};
/* Classes of told requests, each with a budget per second; STATEMENT is what later requests name a statement by. */
enum { SPAN_SAMPLED = 0, SPAN_SLOW = 1, SPAN_FAILED = 2, SPAN_STATEMENT = 3, SPAN_CLASSES = 4 };
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
	unsigned int troubles[TROUBLES];
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
	/* DNS: the type of the question (0: above 255), and the answer's code times 256; others: 0 */
	unsigned short detail;
};

/* `untimed` are messages that nothing answers: in the count, in no bucket. */
struct row {
	unsigned long long sum_ns;
	unsigned int untimed;
	unsigned int pad;
	unsigned int hist[BUCKETS];
};

/* edges are made from an empty row */
_Static_assert(sizeof(struct edge) <= sizeof(struct row), "an edge is no larger than a row");

struct listener_key {
	unsigned int netns;
	unsigned int port;
};

/* Of all sockets that listen on a port of a namespace, as they were found last. */
struct listener {
	unsigned int tick;
	unsigned int queue; /* connections that wait to be accepted */
	unsigned int limit;
	unsigned int drops; /* connections that were dropped there, since the first socket began to listen */
};

/* A process and the mount (as in /proc/PID/mountinfo) of a file that it has open for writing. */
struct mount_key {
	unsigned int tgid;
	unsigned int mount;
};

/* One shared cell of control values and counters. Everything from edge_full on is a counter that only grows. */
struct control {
	unsigned int next_edge;
	unsigned int tick;
	unsigned int pass;
	unsigned int self_tgid;
	unsigned int names; /* told in this tick; the loader sets it back */
	unsigned int looks; /* at all open files, counted from 1 */
	unsigned long long socket_ops; /* what tells a socket's file */
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
	unsigned long long tls_full;
	unsigned long long tls_unbound;
	unsigned long long tls_rebound;
	unsigned long long given_up;
	unsigned long long lookup_full;
	unsigned long long lookup_unmatched;
	unsigned long long names_over;
	unsigned long long timing_full;
	unsigned long long timing_lost;
	unsigned long long span_slow_ns; /* above which a request is slow, where its edge has no threshold of its own */
	unsigned int span_budget[SPAN_CLASSES]; /* in a second */
	unsigned int span_told[SPAN_CLASSES]; /* in this tick; the loader sets it back */
	unsigned long long span_over[SPAN_CLASSES]; /* above the budget */
	unsigned long long span_headless; /* slow or failed behind others on their connection: told together, without their heads */
	unsigned long long span_full; /* the ring had no room */
	unsigned long long unknown_bytes; /* moved by connections whose protocol is not known */
	unsigned long long tls_blind_bytes; /* moved by TLS connections whose plain text is not read */
	unsigned long long mount_full;
};

/*
 * The head of a request and of its answer. Both ends of a connection see the same `seq` and initial numbers. `weight`:
 * requests that this one stands for among all; 0: it was told for being slow or failed only.
 */
struct span_event {
	unsigned long long t0;
	unsigned long long ns;
	unsigned long long socket; /* cookie; of a TLS session its object */
	unsigned long long parent; /* start of the server's request that alone was open on the thread, or 0 */
	unsigned int edge;
	unsigned int tgid;
	unsigned int thread; /* that sent it (client) or read it (server) */
	unsigned int seq; /* sequence number of the first byte of what it was sent in; 0: not known */
	unsigned int initial[2]; /* of the client and of the server; 0: not known */
	unsigned int weight;
	unsigned int count; /* requests that are told together, without a head */
	unsigned int inserted; /* HTTP/2: entries that the requests' table of headers had had before the head */
	unsigned int pad;
	unsigned short length;
	unsigned short reply_length;
	unsigned char proto;
	unsigned char status;
	unsigned char classes; /* a bit for each */
	unsigned char role;
	unsigned char head[HEAD];
	unsigned char reply[REPLY];
};

/* What a thread is at: requests that it read as a server and that are not answered, and since when, if it is one. */
struct span_thread {
	unsigned long long t0;
	unsigned int id;
	unsigned short open;
	unsigned short sampled;
};

/* A TLS session of a process: its SSL object. */
struct tls_key {
	unsigned long long ssl;
	unsigned int tgid;
	unsigned int pad;
};

/* A process that was seen to speak TLS. `state` is the loader's. */
enum { TLS_NOTED = 0, TLS_HOOKED = 1, TLS_IGNORED = 2 };
struct tls_process {
	unsigned long long connections;
	unsigned long long traps; /* that the kernel could emulate */
	unsigned long long slow_traps; /* that had to be stepped over */
	unsigned int state;
	unsigned int pad;
};

/* Cookie of a place in a TLS library: what happens there, and how far the stack pointer is below the function's entry. */
enum {
	TLS_WRITES = 1,
	TLS_LEAVES = 2,
	TLS_EX = 4, /* the length is behind the fourth argument */
	TLS_FREES = 8,
	TLS_SLOW = 16,
	TLS_GO = 32, /* by Go's own calling convention, on goroutines */
	TLS_NOTHING = 64, /* measures what a trap costs */
	TLS_DEPTH = 8, /* shift */
};

/* A question over UDP that waits for its answer. `question` hashes the name as it was asked, and the type. */
struct lookup_key {
	unsigned long long socket;
	unsigned int question;
	unsigned short id;
	unsigned char role;
	unsigned char pad;
};

struct lookup {
	unsigned long long t0;
	unsigned int edge;
	unsigned int count; /* a server may have it from several clients, or again */
	unsigned short type;
	unsigned short length; /* of the name in `name`; 0 where it does not fit */
	unsigned char name[QUESTION]; /* as in the message */
	unsigned int pad;
};

/* The head of an answer, or of a question that was not answered. */
struct name_event {
	unsigned long long mono_ns;
	unsigned int edge;
	unsigned int latency_us;
	unsigned short length;
	unsigned short type;
	unsigned char status;
	unsigned char rcode;
	unsigned short pad;
	unsigned char data[NAME_HEAD];
};

/* What is timed: requests of a block device by operation, and fsync. */
enum {
	TIMING_READ = 0,
	TIMING_WRITE = 1,
	TIMING_FLUSH = 2,
	TIMING_DISCARD = 3,
	TIMING_SYNC = 4,
	TIMING_PART = 16, /* flags beside it */
	TIMING_FAILED = 32,
};

struct timing_key {
	unsigned long long owner; /* id of a cgroup; of an fsync the process; 0 where it is not known or not told apart */
	unsigned int device; /* as the kernel's dev_t: major << 20 | minor */
	unsigned int what;
};

struct timing {
	unsigned long long bytes;
	unsigned long long sum_ns;
	unsigned int errors;
	unsigned int pad;
	unsigned int hist[BUCKETS];
};

struct event {
	unsigned long long mono_ns;
	unsigned long long cgroup;
	unsigned long long memory_cgroup;
	unsigned long long rss; /* pages, as the next two */
	unsigned long long anon;
	unsigned long long shmem;
	unsigned int kind;
	unsigned int pid;
	unsigned int ppid;
	unsigned int code;
	char comm[16];
	char filename[128];
};

#endif
