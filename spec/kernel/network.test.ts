/**
 * What becomes of connections: why connects fail, resets, ends that stop answering, and bytes that no system call of the
 * usual kind moved. Filters and neighbours are those of a network namespace of its own.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseCgroupMounts } from "../../agent/node/host/cgroups.ts";
import type { Emit } from "../../agent/node/host/nodeFigures.ts";
import { putObserved } from "../../agent/node/metrics/Samples.ts";
import { Observer } from "../../agent/node/observe/Observer.ts";
import { Dictionary } from "../../agent/node/observe/Window.ts";
import type { DecodedObserve } from "../../schemas/wire/checkObserve.ts";
import { checkObserve, decodeFrame } from "../../schemas/wire/codec.ts";
import { ROLE, TROUBLES } from "../../schemas/wire/observe.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { buildProbe, type EdgeSum, ProbeBed, type Sought } from "./ProbeBed.ts";
import { freePort, startNginx } from "./servers.ts";
import { exchange, HttpClient, open } from "./traffic.ts";

const troublesOf = (edges: readonly EdgeSum[]): Record<string, number> =>
  Object.fromEntries(
    TROUBLES.map((name, kind) => [name, edges.reduce((n, edge) => n + (edge.troubles[kind] ?? 0), 0)] as const).filter(
      ([, n]) => n > 0,
    ),
  );
const sumOf = (edges: readonly EdgeSum[], field: "opens" | "failed" | "closes" | "bytesIn" | "bytesOut"): number =>
  edges.reduce((n, edge) => n + edge[field], 0);

/** An observer that hears what the probe tells, as in the agent. */
const observe = (bed: ProbeBed): { readonly observer: Observer; readonly bodies: readonly DecodedObserve[] } => {
  const observer = new Observer({
    node: "n",
    bootMs: Date.now() - Number.parseFloat(readFileSync("/proc/uptime", "utf8")) * 1000,
    mounts: parseCgroupMounts(readFileSync("/proc/self/mountinfo", "utf8")),
  });
  const dictionary = new Dictionary(observer.catalog);
  const bodies: DecodedObserve[] = [];
  bed.tap = (tick) => {
    const clocks = { monoMs: bodies.length * 1000, wallMs: Date.now() };
    observer.absorb(tick, clocks);
    bodies.push(checkObserve(decodeFrame(dictionary.encode(observer.observe(bodies.length, clocks))).body));
  };
  return { observer, bodies };
};

/** Runs a Python program in a namespace of its own, where it ends; what it prints is JSON. */
const inNamespace = (text: string): Promise<Record<string, number>> =>
  new Promise((resolve, reject) => {
    const child = spawn("unshare", ["--net", "python3", "-c", `${PRELUDE}\n${text}`]);
    let said = "";
    let wrong = "";
    child.stdout.on("data", (data: Buffer) => (said += data.toString()));
    child.stderr.on("data", (data: Buffer) => (wrong += data.toString()));
    child.once("exit", (code) => {
      if (code === 0) resolve(JSON.parse(said) as Record<string, number>);
      else reject(new Error(wrong));
    });
  });

const PRELUDE = `import socket,subprocess,os,json,struct,threading,select,errno,time
def sh(line): subprocess.run(line,shell=True,check=True)
def put(name,value): open("/proc/sys/net/ipv4/"+name,"w").write(str(value))
def dial(to,patience=20):
  s=socket.socket();s.setblocking(False)
  assert s.connect_ex(to) in (errno.EINPROGRESS,0)
  r=select.select([],[s],[],patience)[1]
  e=s.getsockopt(socket.SOL_SOCKET,socket.SO_ERROR) if r else -1
  s.close();return e
def many(n,to,patience=20):
  got=[];t=[threading.Thread(target=lambda:got.append(dial(to,patience))) for _ in range(n)]
  [x.start() for x in t];[x.join() for x in t];assert len(set(got))==1,got;return got[0]
netns=int(os.readlink("/proc/self/ns/net")[5:-1])
sh("ip link set lo up")`;

describeWith(["bpf"], "connections that go wrong", () => {
  let bed: ProbeBed;
  const seen = (sought: Sought): readonly EdgeSum[] => bed.find(sought);
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  it("tells refused connects, seen later by a dialler that does not wait", async () => {
    const port = await freePort();
    for (const host of ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
      for (let i = 0; i < 10; i++)
        await new Promise<void>((resolve) => connect(port, host).once("error", () => resolve()));
    await bed.settled();
    const edges = seen({ port, role: ROLE.client });
    expect(edges.map((edge) => [edge.edge.peer, edge.failed, troublesOf([edge])])).toEqual(
      expect.arrayContaining([
        ["127.0.0.1", 20, { refused: 20 }],
        ["::1", 10, { refused: 10 }],
      ]),
    );
    expect(edges).toHaveLength(2);
  });

  itWith(["nat", "python"], "tells time-outs, what cannot be reached, and what was given up", async () => {
    const told = await inNamespace(`
put("tcp_syn_retries",1)
sh("nft 'add table ip f; add chain ip f in { type filter hook input priority 0; }; add rule ip f in tcp dport { 81, 82, 83 } drop; add rule ip f in tcp dport 85 reject with tcp reset'")
sh("ip link add veth0 type veth peer name veth1; ip link set veth0 up; ip link set veth1 up; ip address add 10.9.8.1/24 dev veth0")
put("neigh/veth0/retrans_time_ms",100);put("neigh/veth0/mcast_solicit",1)
got={}
def run(name,*a): got[name]=many(*a)
t=[threading.Thread(target=run,args=a) for a in [("filtered",20,("127.0.0.1",81)),("impatient",10,("127.0.0.1",82),1.5),("hasty",5,("127.0.0.1",83),0.1),("nobody",15,("10.9.8.7",84)),("rejected",7,("127.0.0.1",85))]]
[x.start() for x in t];[x.join() for x in t]
print(json.dumps({**got,"netns":netns}))`);
    expect(told).toMatchObject({ filtered: 110, impatient: -1, hasty: -1, nobody: 113, rejected: 111 });
    await bed.settled();
    const of = (port: number): unknown => {
      const edges = seen({ port, netns: told["netns"] ?? 0 });
      return [edges.length, sumOf(edges, "opens"), sumOf(edges, "failed"), troublesOf(edges)];
    };
    expect(of(81)).toEqual([1, 0, 20, { "timed out": 20 }]);
    expect(of(82)).toEqual([1, 0, 10, { "timed out": 10 }]);
    expect(of(83)).toEqual([1, 0, 5, {}]);
    expect(of(84)).toEqual([1, 0, 15, { unreachable: 15 }]);
    expect(of(85)).toEqual([1, 0, 7, { refused: 7 }]);
  });

  itWith(["nat", "python"], "tells a connection whose other end stops answering", async () => {
    const told = await inNamespace(`
l=socket.socket();l.bind(("127.0.0.1",0));l.listen()
c=[socket.create_connection(l.getsockname()) for _ in range(4)];a=[l.accept()[0] for _ in c]
sh("nft 'add table ip f; add chain ip f in { type filter hook input priority 0; }; add rule ip f in tcp dport %d drop'"%l.getsockname()[1])
for s in c: s.setsockopt(socket.IPPROTO_TCP,18,500);s.send(b"x")
for s in c:
  try: s.recv(1)
  except TimeoutError: pass
print(json.dumps({"netns":netns,"port":l.getsockname()[1]}))`);
    await bed.settled();
    const { port = 0, netns = 0 } = told;
    expect(troublesOf(seen({ port, netns, role: ROLE.client }))).toEqual({ lost: 4 });
  });

  it("says so in the metrics of the service that dials", async () => {
    const own = await ProbeBed.start(undefined, "--no-tls");
    const { observer } = observe(own);
    try {
      const port = await freePort();
      const destination = `127.0.0.1:${port}`;
      await own.settled();
      for (let i = 0; i < 5; i++) await expect(open(port)).rejects.toThrow(/ECONNREFUSED/);
      await own.settled();
      const told = new Map<string, number>();
      const put: Emit = (name, labels, value) => {
        if (labels["destination"] === destination) told.set(`${name} ${labels["reason"] ?? ""}`.trim(), value);
      };
      putObserved(put, observer, { cluster: "default", machineId: "m" });
      expect(told.get("container_net_tcp_failed_connects_total")).toBe(5);
      expect(told.get("container_net_tcp_failed_connects_by_reason_total refused")).toBe(5);
      expect([...told.keys()].filter((name) => name.includes("_by_reason_"))).toHaveLength(1);
    } finally {
      observer.close();
      await own.stop();
    }
  });

  itWith(["nat", "python"], "knows where connections go that are translated", async () => {
    const own = await ProbeBed.start(undefined, "--no-tls");
    const { observer, bodies } = observe(own);
    const child = spawn("unshare", [
      "--net",
      "python3",
      "-c",
      `${PRELUDE}
import sys
sh("ip link add veth0 type veth peer name veth1; ip link set veth0 up; ip link set veth1 up; ip address add 10.1.0.5/24 dev veth0; ip -6 address add fd00:1::5/64 dev veth0 nodad; ip route add default dev veth0; ip -6 route add default dev veth0")
for f,to,real in (("ip","10.96.0.1","10.1.0.5"),("ip6","fd00:96::1","[fd00:1::5]")):
  sh("nft 'add table %s n; add chain %s n o { type nat hook output priority -100; }; add rule %s n o %s daddr %s tcp dport 80 dnat to %s:8080'"%(f,f,f,f,to,real))
l=socket.create_server(("::",8080),family=socket.AF_INET6,dualstack_ipv6=True)
c=[socket.create_connection((a,p),5) for a,p in [("10.96.0.1",80)]*3+[("fd00:96::1",80)]*2+[("10.1.0.5",8080)]]
print(netns,flush=True);sys.stdin.read()`,
    ]);
    let wrong = "";
    child.stderr.on("data", (data: Buffer) => (wrong += data.toString()));
    try {
      const netns = await new Promise<number>((resolve, reject) => {
        child.stdout.once("data", (data: Buffer) => resolve(Number(data.toString())));
        child.once("exit", () => reject(new Error(wrong)));
      });
      const told = (): readonly string[] =>
        bodies
          .flatMap(({ nat }) => nat)
          .map((one) => `${one.address} ${one.port} ${one.actualAddress} ${one.actualPort}`)
          .filter((one) => /^(10\.96|fd00:96)/.test(one))
          .toSorted();
      await own.until("both translations", () => told().length > 1);
      await own.settled();
      expect(told()).toEqual(["10.96.0.1 80 10.1.0.5 8080", "fd00:96::1 80 fd00:1::5 8080"]);
      expect(
        own
          .find({ netns, role: ROLE.client, port: 80 })
          .map((edge) => edge.opens)
          .toSorted(),
      ).toEqual([2, 3]);
      const opens = new Map<string, number>();
      const put: Emit = (name, { destination = "", actual_destination = "" }, value) => {
        if (name === "container_net_tcp_successful_connects_total" && /^(10\.|\[fd00)/.test(destination))
          opens.set(`${destination} ${actual_destination}`, value);
      };
      putObserved(put, observer, { cluster: "default", machineId: "m" });
      expect([...opens].toSorted()).toEqual([
        ["10.1.0.5:8080 10.1.0.5:8080", 1],
        ["10.96.0.1:80 10.1.0.5:8080", 3],
        ["[fd00:96::1]:80 [fd00:1::5]:8080", 2],
      ]);
      const again = checkObserve(
        decodeFrame(new Dictionary(observer.catalog).encode(observer.observe(99, { monoMs: 99_000, wallMs: 0 }))).body,
      );
      expect(again.nat.filter(({ port }) => port === 80)).toHaveLength(2);
    } finally {
      child.stdin.end();
      observer.close();
      await own.stop();
    }
  });

  itWith(
    ["python"],
    "tells connections that are dropped since nobody accepts them, to the service that listens",
    async () => {
      const own = await ProbeBed.start(undefined, "--no-tls", "--look", "1");
      const { observer, bodies } = observe(own);
      // with room for one, two wait, and the others are dropped
      const child = spawn("python3", [
        "-c",
        `import socket,sys
l=socket.socket();l.bind(("127.0.0.1",0));l.listen(1)
print(l.getsockname()[1],flush=True);sys.stdin.readline()
c=[]
for _ in range(12):
  s=socket.socket();s.setblocking(False);s.connect_ex(l.getsockname());c.append(s)
sys.stdin.read()`,
      ]);
      try {
        const port = await new Promise<number>((resolve) =>
          child.stdout.once("data", (data: Buffer) => resolve(Number(data.toString()))),
        );
        const told = () => bodies.flatMap(({ events }) => events).filter((one) => one.kind === "overflow");
        await own.until("the listener", () => [...observer.queues.keys()].some((key) => key.endsWith(`|${port}`)));
        child.stdin.write("\n");
        await own.until("the overflow", () => told().length > 0);
        const [event] = told();
        expect(event).toMatchObject({ kind: "overflow", port, limit: 1 });
        // each of the ten that are left is dropped at once, and again when it asks again
        expect(event?.count).toBeGreaterThanOrEqual(10);
        const figures = new Map<string, number>();
        const put: Emit = (name, { listen_addr = "" }, value) => {
          if (listen_addr === `127.0.0.1:${port}`) figures.set(name, value);
        };
        putObserved(put, observer, { cluster: "default", machineId: "m" });
        expect(figures.get("container_net_tcp_listen_queue")).toBe(2);
        expect(figures.get("container_net_tcp_listen_queue_limit")).toBe(1);
        expect(figures.get("container_net_tcp_listen_drops_total")).toBeGreaterThanOrEqual(10);
      } finally {
        child.stdin.end();
        observer.close();
        await own.stop();
      }
    },
  );

  it("counts resets at the end that sends them and at the one that gets them", async () => {
    const server = createServer((socket) => socket.once("data", () => socket.resetAndDestroy()));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    for (let i = 0; i < 50; i++) {
      const socket = await open(port);
      const ended = new Promise<string>((resolve) =>
        socket.once("error", (error) => resolve((error as NodeJS.ErrnoException).code ?? "")),
      );
      socket.write("x");
      expect(await ended).toBe("ECONNRESET");
    }
    await bed.settled();
    expect(troublesOf(seen({ port, role: ROLE.client }))).toEqual({ "reset by peer": 50 });
    expect(troublesOf(seen({ port, role: ROLE.server }))).toEqual({ "reset sent": 50 });
    for (const edges of [seen({ port, role: ROLE.client }), seen({ port, role: ROLE.server })])
      expect([sumOf(edges, "opens"), sumOf(edges, "closes")]).toEqual([50, 50]);
    server.close();
  });

  itWith(["nginx"], "counts every byte that nginx sends from files, at both ends", async () => {
    const nginx = await startNginx("location / { }");
    const size = 3_000_000;
    writeFileSync(join(nginx.folder, "big"), Buffer.alloc(size, "x"));
    await bed.settled();
    const before = sumOf(seen({ port: nginx.port, role: ROLE.server }), "bytesOut");
    const client = new HttpClient(nginx.port, 2);
    await client.times(30, { path: "/big" }, 2);
    await bed.settled();
    const [received, sent] = [
      sumOf(seen({ port: nginx.port, role: ROLE.client }), "bytesIn"),
      sumOf(seen({ port: nginx.port, role: ROLE.server }), "bytesOut") - before,
    ];
    expect(sent).toBe(received);
    expect(sent - 30 * size).toBeGreaterThan(0);
    expect(sent - 30 * size).toBeLessThan(30 * 400);
    expect(bed.both(nginx.port, "http")).toEqual([30, 30]);
    client.close();
    await nginx.stop();
  });

  itWith(["toolchain", "python"], "counts bytes that io_uring moved, and none of unix sockets", async () => {
    const folder = mkdtempSync(join(tmpdir(), "coroot-uring-"));
    writeFileSync(join(folder, "ring.c"), RING);
    execFileSync("gcc", ["-O1", "-o", join(folder, "ring"), join(folder, "ring.c")]);
    const [port = 0, moved = 0, uring = 0] = execFileSync(join(folder, "ring"), { encoding: "utf8" })
      .split(" ")
      .map(Number);
    const unix = execFileSync("python3", [
      "-c",
      `import socket,os
a,b=socket.socketpair()
for _ in range(100): a.send(b"GET / HTTP/1.1\\r\\n\\r\\n");b.recv(100)
print(os.getpid())`,
    ]);
    await bed.settled();
    rmSync(folder, { recursive: true });
    expect(seen({}).filter(({ edge }) => edge.tgid === Number(unix.toString()))).toEqual([]);
    // where the kernel lets nobody use it, the program used plain calls
    expect([uring, moved]).toEqual([uring, 6_400_000]);
    expect(seen({ port }).map(({ edge, bytesIn, bytesOut }) => [edge.role, bytesOut, bytesIn])).toEqual(
      expect.arrayContaining([
        [ROLE.client, moved, 0],
        [ROLE.server, 0, moved],
      ]),
    );
  });
});

describeWith(["bpf"], "what the probe knows of itself", () => {
  it("counts bytes of unknown protocols and within TLS that is not read, and the runs of its programs", async () => {
    const bed = await ProbeBed.start(undefined, "--no-tls");
    const names = ["unknownBytes", "tlsBlindBytes"] as const;
    const before = names.map((name) => bed.self(name));
    const server = createServer((socket) => socket.on("data", (data) => socket.write(data)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const send = async (first: Buffer, n: number): Promise<void> => {
      const socket = await open(port);
      const chunk = Buffer.concat([first, Buffer.alloc(1_000 - first.byteLength, 0xfe)]);
      for (let i = 0; i < n; i++) await exchange(socket, chunk, (answer) => answer.length === 1_000);
      socket.destroy();
    };
    await send(Buffer.from([0xfe]), 100);
    await send(Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), 50);
    await bed.settled();
    // what is sent, and what comes back, at both ends; others on the machine may add to it
    const grown = names.map((name, i) => bed.self(name) - (before[i] ?? 0));
    expect(grown[0]).toBeGreaterThanOrEqual(4 * 100 * 1_000);
    expect(grown[1]).toBeGreaterThanOrEqual(4 * 50 * 1_000);
    const socket = await open(port);
    while (bed.self("measuredUs") === 0) await exchange(socket, "x", (answer) => answer === "x");
    socket.destroy();
    server.close();
    // whichever hooks it has
    const of = (what: string): number => bed.self(`${what}.sock_send`) + bed.self(`${what}.call_done`);
    const [seconds, runs, ns] = [bed.self("measuredUs") / 1e6, of("runs"), of("runNs")];
    expect(seconds).toBeGreaterThan(0.9);
    expect(seconds).toBeLessThan(1.5);
    expect(runs).toBeGreaterThan(100);
    expect(ns / runs).toBeGreaterThan(20);
    expect(ns / runs).toBeLessThan(50_000);
    await bed.stop();
  }, 20_000);
});

/** Sends over TCP to itself by io_uring, one operation at a time: port, bytes, and whether io_uring did it. */
const RING = `#include <linux/io_uring.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static struct io_uring_params p;
static int ring;
static unsigned char *sq, *cq;
static struct io_uring_sqe *sqes;
static int turn(int op, int fd, void *data, unsigned n)
{
	unsigned tail, *at = (unsigned *)(sq + p.sq_off.tail), mask = *(unsigned *)(sq + p.sq_off.ring_mask);
	unsigned *head = (unsigned *)(cq + p.cq_off.head);
	struct io_uring_cqe *done = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	if (ring < 0)
		return op == IORING_OP_SEND ? send(fd, data, n, 0) : recv(fd, data, n, 0);
	tail = *at;
	memset(&sqes[tail & mask], 0, sizeof(*sqes));
	sqes[tail & mask].opcode = op;
	sqes[tail & mask].fd = fd;
	sqes[tail & mask].addr = (unsigned long)data;
	sqes[tail & mask].len = n;
	((unsigned *)(sq + p.sq_off.array))[tail & mask] = tail & mask;
	__atomic_store_n(at, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
		return -1;
	n = done[*head & *(unsigned *)(cq + p.cq_off.ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return n;
}
int main(void)
{
	static char data[64000];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t size = sizeof(to);
	int listening = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), server, got;
	long moved = 0, n;
	ring = syscall(SYS_io_uring_setup, 8, &p);
	if (ring >= 0) {
		sq = mmap(0, p.sq_off.array + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
		cq = mmap(0, p.cq_off.cqes + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
		sqes = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	}
	bind(listening, (void *)&to, sizeof(to));
	getsockname(listening, (void *)&to, &size);
	listen(listening, 1);
	connect(client, (void *)&to, sizeof(to));
	server = accept(listening, 0, 0);
	for (int i = 0; i < 100; i++) {
		for (n = 0; n < (long)sizeof(data); n += got)
			if ((got = turn(IORING_OP_SEND, client, data + n, sizeof(data) - n)) <= 0)
				return 1;
		for (n = 0; n < (long)sizeof(data); n += got)
			if ((got = turn(IORING_OP_RECV, server, data, sizeof(data))) <= 0)
				return 2;
		moved += n;
	}
	printf("%d %ld %d", ntohs(to.sin_port), moved, ring >= 0);
	fflush(stdout);
	close(client);
	return 0;
}
`;
