/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * What we remember of one TCP connection, in sk_storage, and of one walk over a chunk of it, per CPU.
 *
 * Requests waiting for a reply are runs of (t0, sequence number of the last request in the run): the side that pushes
 * owns `pushed` and `tail`, the side that settles owns `popped` and `head`, so neither needs a lock. A full ring makes
 * the last run longer: counts stay exact, the latency of those requests reads too long, and the overflow is counted.
 */
#ifndef COROOT_CONN_H
#define COROOT_CONN_H

/* TLS: what passes on the socket is cipher text, and a session (tls.h) has the walk */
enum { MODE_GUESS = 0, MODE_TRIAL = 1, MODE_PINNED = 2, MODE_OFF = 3, MODE_TLS = 4 };
enum { REQUEST = 0, RESPONSE = 1 };
/*
 * Kinds of a request, where the reply is read by them: WAIT is kept out of latency and of waiting; HEAD and CONNECT are
 * HTTP's; MySQL's are a statement to prepare, rows without a head, one packet of any content, and a login.
 */
enum {
	KIND_PLAIN = 0,
	KIND_HEAD = 1,
	KIND_CONNECT = 2,
	KIND_WAIT = 3,
	KIND_PREPARE = 4,
	KIND_ROWS = 5,
	KIND_LINE = 6,
	KIND_LOGIN = 7,
};

struct run {
	u64 t0;
	u32 end;
	u32 kind;
};

/* A walker's state between two chunks of one direction. */
struct walk {
	u64 skip; /* bytes of the value at hand that are still to pass by */
	u64 t0; /* start of the message at hand */
	u32 need; /* elements left of it (RESP), length so far (HTTP) */
	u8 state;
	u8 status;
	u8 kind;
	u8 flags;
	u8 carried;
	u8 done; /* message is complete once skip is 0 */
	u8 word; /* arguments seen */
	u8 lost; /* out of step: wait for a message after a turn */
	u8 carry[LOOKAHEAD];
	u32 id; /* of the frame at hand */
};

/* RabbitMQ: a channel that waits for the end of a method, or for confirms of publishes. */
struct lane {
	u32 published;
	u32 acked; /* all up to this one are confirmed */
	u32 early; /* of the 32 behind it, those that are */
	u32 since; /* when the method at hand began, in 1,024 ns; 0: none */
	u16 channel;
	u8 flags;
	u8 returned; /* messages that came back, whose acks are still to come */
	u32 far; /* confirmed farther behind */
};

/*
 * What is kept of the oldest waiting request until its answer tells whether it becomes a span (span.h). The side that
 * sends requests moves NONE to WANTED to HEAD, the one that answers HEAD to ANSWERED to NONE.
 */
enum { KEEP_NONE = 0, KEEP_WANTED = 1, KEEP_HEAD = 2, KEEP_ANSWERED = 3 };
struct head {
	u64 t0;
	u64 ns;
	u64 parent;
	u64 slow_ns; /* threshold of the connection's edge */
	u32 number; /* of the request, by order or by id */
	u32 first; /* requests before it */
	u32 seq;
	u32 thread;
	u16 length;
	u8 state;
	u8 status;
	u8 sampled;
	u8 prepares; /* the chunk at hand names a statement */
	u8 lone_status;
	u8 entered; /* its thread counts it as open */
	u32 lone; /* slow or failed ones in this chunk that no head was kept of */
	u32 inserted; /* see span_event */
	u64 lone_ns;
	u32 proto; /* HTTP/2: of the last stream that was told */
	u32 pad;
	u8 data[HEAD];
};

struct conn {
	struct edge_key key;
	u32 id;
	u32 tgid;
	u32 retransmits;
	u64 started; /* when it was dialled; later as in slots.h */
	u64 out;
	u64 in;
	u8 role;
	u8 proto;
	u8 mode;
	u8 misses;
	u8 turn; /* 1 + direction of the last chunk */
	u8 opened;
	u8 closed;
	u8 fresh; /* seen from its opening, nothing sent yet */
	u8 careful; /* HTTP: replies must be walked to their ends */
	u8 votes; /* messages that fit the guess, up to VOTES */
	u8 aged; /* requests were given up: an answer may come after all */
	u8 pad;
	u32 looked; /* tick in which it was last looked at; several processes may have the socket */
	u32 pushed;
	u32 popped;
	u32 tail;
	u32 head;
	u32 waits_in;
	u32 waits_out;
	struct walk walks[2];
	union {
		u32 inbox; /* NATS: hash of where replies to this connection go */
		struct lane lanes[LANES];
	};
	struct run runs[RUNS];
	struct head kept;
};

/* How far a socket is in a vector of messages, by direction. */
struct resolver {
	u64 vector[2];
	u32 thread[2];
	u32 next[2];
};

/* A request of an HTTP/2 connection; 0 in t0: free. Each side of it is written by one direction only. */
struct h2_stream {
	u64 t0;
	u32 id;
	u32 head; /* when the reply's final head came, in 2^20 ns; 0: not yet */
	u32 side[2]; /* SIDE_* of h2.h */
};

/* What an HTTP/2 connection has besides, in sk_storage of its own. */
struct h2 {
	u64 since; /* when the oldest stream without a slot began */
	u64 oldest; /* the look at each second: when the oldest of the waiting ones began */
	u32 waiting;
	u32 early; /* replies have come before their requests */
	u32 drop; /* streams from `refused` on are to be forgotten */
	u32 last; /* greatest id of a stream so far */
	u32 refused; /* streams from this id on are not answered here; 0: none */
	u32 opened;
	u32 ended;
	u32 extra; /* open streams without a slot */
	u32 inserted[2]; /* entries that the table of a direction ever had */
	u32 base[2]; /* those before are not known */
	u32 grpc; /* the last stream that was told was a gRPC call */
	u32 paths; /* the chunk of requests at hand makes a path an entry of the table */
	u8 table[2][H2_TABLE];
	struct h2_stream streams[H2_STREAMS];
};

#define WINDOW 512
#define BUFFER 1024

struct scratch {
	u64 base; /* user address of the next byte of the segment */
	u64 iov; /* user address of the next iovec */
	/* where the chunk begins: base, segment and iovecs before the walk */
	u64 first;
	u64 first_iov;
	u32 first_length;
	u32 first_iovs;
	u32 first_size;
	u32 whole; /* the chunk is in the window from its beginning */
	u32 thread;
	u32 seq; /* see span_event */
	u32 initial[2];
	u64 cookie;
	u64 stamp; /* when this chunk was sent or received */
	u32 iovs;
	u32 segment; /* bytes left in the segment */
	u32 left; /* bytes of the chunk that are not in the window yet */
	u32 pos;
	u32 len;
	u32 blind; /* payload cannot be read */
	u32 direction;
	u32 turned;
	u32 size;
	/* replies of one status, settled together */
	u32 status;
	u32 count;
	u32 good; /* messages understood in this walk */
	u64 context; /* of the program that left the chunk to another */
	u32 tried; /* the chunk is of no usual shape */
	u32 room;
	struct walk w;
	/* a datagram */
	struct edge_key key;
	struct lookup_key asked;
	struct lookup ask;
	u64 socket;
	u64 address; /* user address of the other end's, 0: connected */
	u32 nr; /* system call */
	u32 at; /* which message of a vector */
	u32 told; /* bytes of the DNS message to tell */
	u32 inserted; /* HTTP/2: see span_event, before the chunk */
	u64 arg2;
	u64 arg5;
	u8 buf[BUFFER + 64];
};

/* What a thread last did on a TLS socket. */
struct tls_io {
	u64 sk;
	u64 stamp;
	u32 id; /* edge */
	u8 role;
	u8 inside; /* within the library call at hand */
	u16 pad;
};

/* A call of a TLS library's function, between entry and return. */
struct tls_frame {
	u64 sp; /* stack pointer at entry; Go: when that was, since stacks move */
	u64 ssl;
	u64 base;
	u64 length; /* where the library leaves the length (see TLS_EX) */
};

#define TLS_CALLS 4

/* The calls that a thread is in, and its working memory: unlike the socket's hooks it can be preempted there. */
struct tls_thread {
	struct tls_frame calls[TLS_CALLS];
	struct tls_frame go;
	u32 depth;
	/* what is known of its process, asked for once in a tick, and traps that are not added to it yet */
	u32 tick;
	u32 hooked;
	u32 traps;
	u32 slow_traps;
	u32 pad;
	u64 wrote; /* session whose cipher text this thread has not sent yet */
	struct tls_io sent;
	struct tls_io received;
	struct scratch scratch;
};

/* The plain side of a TLS connection, by its SSL object; `sk` is bound by votes. */
struct tls_session {
	u64 sk;
	u64 stamp;
	u32 score;
	u32 looked; /* tick in which its socket was last looked at */
	u32 freed;
	u32 pad;
	struct conn c;
};

#endif
