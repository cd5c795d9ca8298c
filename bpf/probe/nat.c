/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "nat.h"
#include "out.h"
#include "../include/frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_QUESTIONS 256
/* to enter a namespace and come back costs about as much as ten questions */
#define NAMESPACES_PER_TICK 16
#define LOADED_EVERY 30
#define MAPPED_AT 12

static struct nat_question questions[MAX_QUESTIONS];
static size_t waiting;
static struct nat_figures figures;
static int own = -1, machine = -1; /* descriptors of network namespaces; machine: -1 where it is the own */
static ino_t own_inode, machine_inode;
static int off = 1, loaded;
static uint32_t ticks;

static ino_t inode_of(int fd)
{
	struct stat at;

	return fstat(fd, &at) ? 0 : at.st_ino;
}

static int tracking(void)
{
	return access("/proc/sys/net/netfilter/nf_conntrack_count", F_OK) == 0;
}

static int open_socket(void)
{
	struct timeval patience = { .tv_usec = 200000 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* A socket that speaks with the namespace `fd`. The process is back in its own when this returns. */
static int socket_in(int fd)
{
	int made;

	if (setns(fd, CLONE_NEWNET))
		return -1;
	made = open_socket();
	if (setns(own, CLONE_NEWNET)) {
		fprintf(stderr, "probe: no way back to its network namespace: %s\n", strerror(errno));
		exit(1);
	}
	return made;
}

struct message {
	size_t length;
	uint8_t bytes[256];
};

static struct nlattr *put(struct message *m, uint16_t type, const void *data, size_t size)
{
	struct nlattr *attribute = (struct nlattr *)(m->bytes + m->length);

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + size;
	if (size)
		memcpy((uint8_t *)attribute + NLA_HDRLEN, data, size);
	m->length += NLA_HDRLEN + NLA_ALIGN(size);
	return attribute;
}

static void end(struct message *m, struct nlattr *nest)
{
	nest->nla_len = m->bytes + m->length - (uint8_t *)nest;
}

static int is_mapped(const uint8_t *ip)
{
	static const uint8_t prefix[MAPPED_AT] = { [10] = 0xff, [11] = 0xff };

	return memcmp(ip, prefix, MAPPED_AT) == 0;
}

static const struct nlattr *find(const uint8_t *at, size_t size, uint16_t type)
{
	while (size >= NLA_HDRLEN) {
		const struct nlattr *attribute = (const void *)at;
		size_t step = NLA_ALIGN(attribute->nla_len);

		if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > size)
			return NULL;
		if ((attribute->nla_type & NLA_TYPE_MASK) == type)
			return attribute;
		if (step >= size)
			return NULL;
		at += step;
		size -= step;
	}
	return NULL;
}

static const struct nlattr *within(const struct nlattr *nest, uint16_t type)
{
	return nest ? find((const uint8_t *)nest + NLA_HDRLEN, nest->nla_len - NLA_HDRLEN, type) : NULL;
}

/* 0, or -errno. The answer's sender is where the connection went. */
static int ask(int fd, const struct nat_question *q, uint8_t *ip, uint16_t *port)
{
	static uint32_t sequence;
	uint8_t answer[4096];
	struct message m = { .length = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)) };
	struct nlmsghdr *head = (struct nlmsghdr *)m.bytes;
	struct nfgenmsg *family = NLMSG_DATA(head);
	int v4 = is_mapped(q->dialled) && is_mapped(q->client);
	uint8_t tcp = IPPROTO_TCP;
	uint16_t from = htons(q->client_port), to = htons(q->port);
	struct nlattr *tuple, *part;
	const struct nlattr *reply, *found;
	ssize_t n;

	tuple = put(&m, CTA_TUPLE_ORIG | NLA_F_NESTED, NULL, 0);
	part = put(&m, CTA_TUPLE_IP | NLA_F_NESTED, NULL, 0);
	if (v4) {
		put(&m, CTA_IP_V4_SRC, q->client + MAPPED_AT, 4);
		put(&m, CTA_IP_V4_DST, q->dialled + MAPPED_AT, 4);
	} else {
		put(&m, CTA_IP_V6_SRC, q->client, 16);
		put(&m, CTA_IP_V6_DST, q->dialled, 16);
	}
	end(&m, part);
	part = put(&m, CTA_TUPLE_PROTO | NLA_F_NESTED, NULL, 0);
	put(&m, CTA_PROTO_NUM, &tcp, 1);
	put(&m, CTA_PROTO_SRC_PORT, &from, 2);
	put(&m, CTA_PROTO_DST_PORT, &to, 2);
	end(&m, part);
	end(&m, tuple);
	head->nlmsg_len = m.length;
	head->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
	head->nlmsg_flags = NLM_F_REQUEST;
	head->nlmsg_seq = ++sequence;
	family->nfgen_family = v4 ? AF_INET : AF_INET6;
	family->version = NFNETLINK_V0;
	if (send(fd, m.bytes, m.length, 0) < 0)
		return -errno;
	do {
		n = recv(fd, answer, sizeof(answer), 0);
		if (n < 0)
			return -errno;
		head = (struct nlmsghdr *)answer;
		if (!NLMSG_OK(head, (size_t)n))
			return -EBADMSG;
	} while (head->nlmsg_seq != sequence);
	if (head->nlmsg_type == NLMSG_ERROR) {
		struct nlmsgerr *error = NLMSG_DATA(head);

		return head->nlmsg_len >= NLMSG_LENGTH(sizeof(*error)) && error->error ? error->error : -EBADMSG;
	}
	if (head->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg)))
		return -EBADMSG;
	reply = find((uint8_t *)NLMSG_DATA(head) + NLMSG_ALIGN(sizeof(struct nfgenmsg)),
		     head->nlmsg_len - NLMSG_LENGTH(NLMSG_ALIGN(sizeof(struct nfgenmsg))), CTA_TUPLE_REPLY);
	found = within(within(reply, CTA_TUPLE_IP), v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC);
	if (!found || found->nla_len < NLA_HDRLEN + (v4 ? 4 : 16))
		return -EBADMSG;
	memset(ip, 0, 16);
	if (v4)
		ip[10] = ip[11] = 0xff;
	memcpy(ip + (v4 ? MAPPED_AT : 0), (const uint8_t *)found + NLA_HDRLEN, v4 ? 4 : 16);
	found = within(within(reply, CTA_TUPLE_PROTO), CTA_PROTO_SRC_PORT);
	if (!found || found->nla_len < NLA_HDRLEN + 2)
		return -EBADMSG;
	memcpy(port, (const uint8_t *)found + NLA_HDRLEN, 2);
	*port = ntohs(*port);
	return 0;
}

void nat_start(void)
{
	struct frame_capability c = { .state = STATE_ON };
	struct nat_question nobody = { .client_port = 1, .port = 1, .client = { [10] = 0xff, [11] = 0xff, [15] = 1 },
				       .dialled = { [10] = 0xff, [11] = 0xff, [15] = 1 } };
	uint8_t ip[16];
	uint16_t port;
	int fd, error = 0;

	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	machine = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
	own_inode = inode_of(own);
	machine_inode = machine < 0 ? own_inode : inode_of(machine);
	if (machine >= 0 && machine_inode == own_inode) {
		close(machine);
		machine = -1;
	}
	loaded = tracking();
	fd = open_socket();
	if (fd < 0)
		error = -errno;
	else if (loaded)
		error = ask(fd, &nobody, ip, &port);
	if (fd >= 0)
		close(fd);
	off = own < 0 || (error && error != -ENOENT);
	if (off) {
		c.state = STATE_OFF;
		c.error = own < 0 ? ENOENT : -error;
		snprintf(c.reason, sizeof(c.reason), "services behind NAT are known by the other end only; %s",
			 error == -EPERM ? "needs CAP_NET_ADMIN" : strerror(c.error));
	}
	snprintf(c.feature, sizeof(c.feature), "connections.nat");
	out_frame(FRAME_CAPABILITY, &c, sizeof(c));
}

int nat_ask(const struct nat_question *question)
{
	if (off || !loaded)
		return 0;
	if (waiting == MAX_QUESTIONS) {
		figures.dropped++;
		return 0;
	}
	questions[waiting++] = *question;
	return 1;
}

static int enter(uint32_t netns, uint32_t tgid)
{
	char path[48];
	int fd, made = -1;

	if (netns == own_inode)
		return open_socket();
	if (netns == machine_inode)
		return socket_in(machine);
	snprintf(path, sizeof(path), "/proc/%u/ns/net", tgid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* the process may have moved, or be another one now */
	if (inode_of(fd) == netns)
		made = socket_in(fd);
	close(fd);
	return made;
}

static int translated(const struct nat_question *q, const uint8_t *ip, uint16_t port)
{
	return port != q->port || memcmp(ip, q->dialled, 16) != 0;
}

/* Answers 1 when it is known where the connection went. */
static int learn(int fd, const struct nat_question *q, int last, void (*tell)(uint32_t, const uint8_t *, uint16_t))
{
	uint8_t ip[16];
	uint16_t port;
	int error = ask(fd, q, ip, &port);

	figures.asked++;
	if (error && error != -ENOENT)
		figures.failed++;
	if (error || (!last && !translated(q, ip, port)))
		return 0;
	if (translated(q, ip, port))
		figures.translated++;
	tell(q->edge, ip, port);
	return 1;
}

void nat_tick(void (*tell)(uint32_t, const uint8_t *, uint16_t))
{
	size_t kept = 0, outer = 0;
	int entered = 0, fd;

	if (ticks++ % LOADED_EVERY == 0)
		loaded = tracking();
	/* one namespace after the other: its questions are taken out, those that the machine may answer stay in front */
	while (waiting > outer && entered < NAMESPACES_PER_TICK) {
		uint32_t netns = questions[outer].netns;
		int last = netns == machine_inode;

		fd = enter(netns, questions[outer].tgid);
		entered += netns != own_inode;
		if (fd < 0)
			figures.failed++;
		kept = outer;
		for (size_t i = outer; i < waiting; i++) {
			struct nat_question q = questions[i];

			if (q.netns != netns) {
				questions[kept++] = q;
			} else if ((fd < 0 || !learn(fd, &q, last, tell)) && !last) {
				questions[kept++] = questions[outer];
				questions[outer++] = q;
			}
		}
		waiting = kept;
		if (fd >= 0)
			close(fd);
	}
	if (outer) {
		fd = machine >= 0 ? socket_in(machine) : open_socket();
		for (size_t i = 0; i < outer && fd >= 0; i++)
			learn(fd, &questions[i], 1, tell);
		if (fd >= 0)
			close(fd);
		memmove(questions, questions + outer, (waiting - outer) * sizeof(*questions));
		waiting -= outer;
	}
}

struct nat_figures nat_figures(void)
{
	return figures;
}
