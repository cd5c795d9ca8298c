/** DNS at both ends: Debian's dnsmasq, asked by glibc, by Node's c-ares and over plain sockets in every form there is. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseCgroupMounts } from "../../agent/node/host/cgroups.ts";
import type { Emit } from "../../agent/node/host/nodeFigures.ts";
import { putObserved } from "../../agent/node/metrics/Samples.ts";
import { Observer } from "../../agent/node/observe/Observer.ts";
import { Dictionary } from "../../agent/node/observe/Window.ts";
import type { DecodedObserve } from "../../schemas/wire/checkObserve.ts";
import { checkObserve, decodeFrame } from "../../schemas/wire/codec.ts";
import { ROLE, type Role } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { NameServer } from "./NameServer.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";

const A = 1;
const AAAA = 28;
const NXDOMAIN = 3 * 256;
const SERVFAIL = 2 * 256;
const REFUSED = 5 * 256;
const N = 10_000;

/** What the clients below have in common: questions, and whether the answer is the one to it. */
const PYTHON = `
import socket, struct, sys
def name(i): return "missing%d.test" % i if i % 10 == 0 else "w%d.good.test" % i
def question(i, n=None, kind=1):
    n = n or name(i)
    return struct.pack(">HHHHHH", i & 65535, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in n.split(".")) + b"\\0" + struct.pack(">HH", kind, 1)
def check(i, answer): assert answer[:2] == struct.pack(">H", i & 65535) and answer[2] & 128, answer
`;

describeWith(["bpf", "netns", "dnsmasq", "python"], "DNS requests at both ends", () => {
  let bed: ProbeBed;
  let server: NameServer;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
    server = await NameServer.start();
  }, 30_000);
  afterAll(async () => {
    await server.stop();
    await bed.stop();
  });

  const look = (role: Role, address: (text: string) => boolean): ReadonlyMap<string, number> => {
    const out = new Map<string, number>();
    for (const { edge, details } of bed.find({ role, netns: server.netns, port: 53 }))
      if (address(role === ROLE.client ? edge.peer : edge.local))
        for (const [key, n] of details) if (n > 0) out.set(key, (out.get(key) ?? 0) + n);
    return out;
  };
  const isServer = (text: string): boolean => text === "127.0.0.1" || text === "::1";

  /** What was counted of dnsmasq while `work` ran, which must be the same at both ends. */
  const counted = async (work: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> => {
    await bed.settled();
    const before = [look(ROLE.client, isServer), look(ROLE.server, isServer)];
    await work();
    await bed.settled();
    const [client, dnsmasq] = [look(ROLE.client, isServer), look(ROLE.server, isServer)].map((now, end) =>
      Object.fromEntries(
        [...now].map(([key, n]) => [key, n - (before[end]?.get(key) ?? 0)] as const).filter(([, n]) => n !== 0),
      ),
    );
    expect(dnsmasq).toEqual(client);
    return client ?? {};
  };
  const python = (code: string): Promise<string> => server.run("python3", "-c", `${PYTHON}\n${code}`);

  it("counts glibc, which asks for both kinds of addresses at a call", async () => {
    const half = N / 2;
    const counts = await counted(() =>
      python(`
for i in range(${half}):
    try:
        socket.getaddrinfo(name(i), 80, type=socket.SOCK_STREAM)
        assert i % 10
    except socket.gaierror: assert i % 10 == 0`),
    );
    expect(counts).toEqual({
      [`dns.ok ${A}`]: (half * 9) / 10,
      [`dns.ok ${AAAA}`]: (half * 9) / 10,
      [`dns.rejected ${NXDOMAIN + A}`]: half / 10,
      [`dns.rejected ${NXDOMAIN + AAAA}`]: half / 10,
    });
  }, 20_000);

  it("counts unconnected and connected sockets, vectors, several messages at a call, and IPv6", async () => {
    const n = N / 10;
    const counts = await counted(() =>
      python(`
import ctypes, os
to = ("127.0.0.1", 53)
free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(${n}):
    free.sendto(question(i), to); check(i, free.recvfrom(512)[0])
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for i in range(${n}):
    six.sendto(question(i), ("::1", 53)); check(i, six.recvmsg(512)[0])
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); bound.connect(to)
for i in range(${n}):
    bound.send(question(i)); check(i, bound.recv(512))
for i in range(${n}):
    os.write(bound.fileno(), question(i)); check(i, os.read(bound.fileno(), 512))
for i in range(${n}):
    bound.sendmsg([question(i)]); check(i, bound.recvmsg(512)[0])
for i in range(${n}):
    os.writev(bound.fileno(), [question(i)]); got = bytearray(512); os.readv(bound.fileno(), [got]); check(i, got)
class iovec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
class msghdr(ctypes.Structure): _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(iovec)), ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)]
class mmsghdr(ctypes.Structure): _fields_ = [("hdr", msghdr), ("len", ctypes.c_uint)]
libc = ctypes.CDLL(None, use_errno=True)
def vector(buffers):
    v = (mmsghdr * len(buffers))()
    for m, b in zip(v, buffers): m.hdr.iov = ctypes.pointer(iovec(ctypes.addressof(b), len(b))); m.hdr.iovlen = 1
    return v
room = [ctypes.create_string_buffer(512) for _ in range(8)]
into = vector(room)
for i in range(0, ${n}, 4):
    sent = [ctypes.create_string_buffer(q, len(q)) for q in map(question, range(i, i + 4))]
    assert libc.sendmmsg(bound.fileno(), vector(sent), 4, 0) == 4
    got = 0
    while got < 4:
        r = libc.recvmmsg(bound.fileno(), into, 8, 0x10000, None)
        assert r > 0
        got += r`),
    );
    expect(counts).toEqual({
      [`dns.ok ${A}`]: (n * 7 * 9) / 10,
      [`dns.rejected ${NXDOMAIN + A}`]: (n * 7) / 10,
    });
  }, 20_000);

  it("tells questions of the same id on one socket apart", async () => {
    const counts = await counted(() =>
      python(`
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("127.0.0.1", 53))
for i in range(100):
    s.send(question(7, "a.good.test")); s.send(question(7, "b.test"))
    for _ in range(2): check(7, s.recv(512))`),
    );
    expect(counts).toEqual({ [`dns.ok ${A}`]: 100, [`dns.rejected ${NXDOMAIN + A}`]: 100 });
  }, 20_000);

  it("counts Node.js, whose resolver is c-ares", async () => {
    const n = N / 10;
    const counts = await counted(() =>
      server.run(
        "node",
        "--input-type=module",
        "-e",
        `import dns from "node:dns/promises";
for (let i = 0; i < ${n}; i += 50)
  await Promise.all(Array.from({ length: 50 }, async (_, at) => {
    const bad = (i + at) % 10 === 0;
    const got = await dns.resolve4(bad ? "missing.test" : "w" + (i + at) + ".good.test").catch((e) => e.code);
    if (bad !== (got === "ENOTFOUND")) throw new Error(String(got));
  }));`,
      ),
    );
    expect(counts).toEqual({ [`dns.ok ${A}`]: (n * 9) / 10, [`dns.rejected ${NXDOMAIN + A}`]: n / 10 });
  }, 20_000);

  it("counts TCP, one at a time and in pipelines", async () => {
    const n = N / 10;
    const counts = await counted(() =>
      python(`
def call(s, m): s.sendall(struct.pack(">H", len(m)) + m)
def exactly(s, n):
    b = b""
    while len(b) < n: b += s.recv(n - len(b))
    return b
def take(s): return exactly(s, struct.unpack(">H", exactly(s, 2))[0])
for round in range(${n / 50}):
    s = socket.create_connection(("127.0.0.1", 53))
    for i in range(round * 50, round * 50 + 25): call(s, question(i)); check(i, take(s))
    s.sendall(b"".join(struct.pack(">H", len(m)) + m for m in map(question, range(round * 50 + 25, round * 50 + 50))))
    for i in range(25): take(s)
    s.close()`),
    );
    expect(counts).toEqual({ [`dns.ok ${A}`]: (n * 9) / 10, [`dns.rejected ${NXDOMAIN + A}`]: n / 10 });
  }, 20_000);

  it("counts what comes byte by byte over TCP, though not its type", async () => {
    const before = bed.both(53, "dns");
    await python(`
s = socket.create_connection(("127.0.0.1", 53)); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
m = question(1, "good.test")
for b in struct.pack(">H", len(m)) + m: s.send(bytes([b]))
assert s.recv(512)`);
    await bed.until("both ends", () => bed.both(53, "dns").every((n, end) => n === (before[end] ?? 0) + 1));
  });

  it("tells failures and refusals apart, at the forwarder's client end too", async () => {
    const counts = await counted(() =>
      python(`
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(300):
    s.sendto(question(i, "w%d.broken" % i if i % 3 else "w%d.example" % i), ("127.0.0.1", 53)); check(i, s.recv(512))`),
    );
    expect(counts).toEqual({ [`dns.failed ${SERVFAIL + A}`]: 200, [`dns.failed ${REFUSED + A}`]: 100 });
    const upstream = (text: string): boolean => text === "127.0.0.3";
    const [asked, answered] = [look(ROLE.client, upstream), look(ROLE.server, upstream)];
    expect(asked).toEqual(answered);
    expect(asked.get(`dns.failed ${SERVFAIL + A}`)).toBeGreaterThanOrEqual(200);
  }, 20_000);

  it("counts what is asked again or never answered, and shows it while it waits", async () => {
    await python(`
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(20): s.sendto(question(i, "w%d.dead" % i, 28), ("127.0.0.2", 53))
for i in range(5): s.sendto(question(i, "w%d.dead" % i, 28), ("127.0.0.2", 53))`);
    const dead = (text: string): boolean => text === "127.0.0.2";
    const waiting = (): number =>
      bed
        .find({ role: ROLE.client, netns: server.netns })
        .reduce((n, sum) => n + (dead(sum.edge.peer) ? sum.pendingCount : 0), 0);
    await bed.until("waiting questions", () => waiting() === 20);
    expect(look(ROLE.client, dead).get(`dns.unanswered ${AAAA}`)).toBe(5);
    const both = [ROLE.client, ROLE.server] as const;
    await bed.until(
      "the end of their time",
      () => both.every((role) => look(role, dead).get(`dns.unanswered ${AAAA}`) === 25),
      15_000,
    );
    expect(waiting()).toBe(0);
  }, 20_000);

  it("is told by the agent: names of addresses, absent names apart from tries of a search list, exact metrics", async () => {
    const observer = new Observer({
      node: "spec",
      bootMs: Date.now() - Number.parseFloat(readFileSync("/proc/uptime", "utf8")) * 1000,
      mounts: parseCgroupMounts(readFileSync("/proc/self/mountinfo", "utf8")),
    });
    const dictionary = new Dictionary(observer.catalog);
    const began = performance.now();
    const bodies: DecodedObserve[] = [];
    bed.tap = (tick) => {
      const clocks = { monoMs: performance.now() - began, wallMs: Date.now() };
      observer.absorb(tick, clocks);
      bodies.push(checkObserve(decodeFrame(dictionary.encode(observer.observe(bodies.length, clocks))).body));
    };
    server.resolv("search corp.test lan.test\noptions ndots:5");
    const client = server.spawn(
      "python3",
      "-c",
      `import socket, sys
def get(name):
    try: socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except socket.gaierror: pass
for name in ("alias.test", "typo.test"): get(name)
sys.stdin.read()`,
    );
    const own = (body: DecodedObserve): readonly string[] =>
      body.absent.filter(({ name }) => name.endsWith(".test")).map(({ name, type }) => `${name} ${type}`);
    try {
      await bed.until("the absent name", () => bodies.some((body) => own(body).length > 0));
      expect(bodies.flatMap(own).toSorted()).toEqual(["typo.test TypeA", "typo.test TypeAAAA"]);
      const names = new Map(bodies.flatMap(({ names }) => names).map(({ address, name }) => [address, name]));
      expect([names.get("192.0.2.7"), names.get("2001:db8::7")]).toEqual(["alias.test", "alias.test"]);
      await bed.settled();
      const told = new Map<string, number>();
      const put: Emit = (name, labels, value) => {
        const key = [name, labels["domain"], labels["request_type"], labels["status"], labels["le"]].join(" ");
        if (labels["app_id"]?.includes("python") === true && name.includes("_dns_"))
          told.set(key, (told.get(key) ?? 0) + value);
      };
      putObserved(put, observer, { cluster: "default", machineId: "m" });
      const requests = [...told].filter(([key]) => key.startsWith("container_dns_requests_total")).toSorted();
      const counts = (domain: string, status: string, n: number): readonly (readonly [string, number])[] =>
        ["TypeA", "TypeAAAA"].map((type) => [`container_dns_requests_total ${domain} ${type} ${status} `, n]);
      expect(requests).toEqual([
        ...counts("alias.test", "ok", 1),
        ...counts("alias.test.search_path_suffix", "nxdomain", 2),
        ...counts("typo.test", "nxdomain", 1),
        ...counts("typo.test.search_path_suffix", "nxdomain", 2),
      ]);
      expect(told.get("container_dns_requests_duration_seconds_total_count    ")).toBe(12);
    } finally {
      client.stdin?.end();
      bed.tap = null;
      observer.close();
    }
  }, 20_000);

  it("tells the agent of answers within its budget, and counts the rest", () => {
    expect(bed.answers.length).toBeGreaterThan(500);
    expect(bed.self("namesLost")).toBeGreaterThan(0);
    const message = bed.answers.find(({ status, message }) => status === 0 && message.byteLength > 30)?.message;
    expect(Buffer.from(message ?? []).toString("latin1")).toContain("\u0004good\u0004test\u0000");
    expect(bed.self("lookupsRefused")).toBe(0);
  });
});
