/**
 * Connections and what waits on them: refused connects, killed clients, locks, sockets older than the probe, other
 * network namespaces, IPv6, a reader that pauses.
 */
import { spawn } from "node:child_process";
import { createServer, connect, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROLE, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { buildProbe, ProbeBed, probePath } from "./ProbeBed.ts";
import { freePort, startPostgres, startRedis } from "./servers.ts";
import { command, exchange, open } from "./traffic.ts";

const REDIS_SET = command("SET", "k", "v");
const listen = (host: string, answer: (socket: Socket) => void): Promise<{ server: Server; port: number }> =>
  new Promise((resolve) => {
    const server = createServer(answer);
    server.listen(0, host, () => {
      const address = server.address();
      resolve({ server, port: typeof address === "object" && address !== null ? address.port : 0 });
    });
  });

describeWith(["bpf"], "connections", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  it("counts opens, closes, bytes and the client's ports at both ends", async () => {
    const { server, port } = await listen("127.0.0.1", (socket) => socket.on("data", (data) => socket.write(data)));
    const sockets = await Promise.all([open(port), open(port), open(port)]);
    const ports = sockets.map((socket) => socket.localPort);
    for (const socket of sockets) await exchange(socket, "x".repeat(5_000), (answer) => answer.length === 5_000);
    await bed.settled();
    for (const role of [ROLE.client, ROLE.server]) {
      const [edge, ...more] = bed.find({ role, port });
      expect(more).toEqual([]);
      expect(edge).toMatchObject({ opens: 3, closes: 0, active: 3, bytesOut: 15_000, bytesIn: 15_000 });
      expect(edge?.pairs.toSorted()).toEqual(ports.toSorted());
      expect(edge?.edge.tgid).toBe(process.pid);
      expect(edge?.rttCount).toBeGreaterThan(0);
    }
    for (const socket of sockets) socket.destroy();
    await bed.until("all closes", () => bed.find({ port }).every((edge) => edge.closes === 3 && edge.active === 0));
    server.close();
  });

  it("counts a refused connect", async () => {
    const port = await freePort();
    for (let i = 0; i < 3; i++) await expect(open(port)).rejects.toThrow(/ECONNREFUSED/);
    await bed.settled();
    expect(bed.find({ port })).toHaveLength(1);
    expect(bed.find({ port, role: ROLE.client })[0]).toMatchObject({ opens: 0, failed: 3, active: 0 });
  });

  it("sees IPv6 and IPv4-mapped addresses as what they are", async () => {
    const { server, port } = await listen("::", (socket) => socket.on("data", () => socket.write("+OK\r\n")));
    const six = connect(port, "::1");
    const four = connect(port, "127.0.0.1");
    for (const socket of [six, four]) await exchange(socket, REDIS_SET, (answer) => answer === "+OK\r\n");
    await bed.settled();
    const seen = bed.find({ port }).map((sum) => `${sum.edge.role} ${sum.edge.local} ${sum.edge.peer}`);
    expect(seen.toSorted()).toEqual(["0  127.0.0.1", "0  ::1", "1 127.0.0.1 127.0.0.1", "1 ::1 ::1"]);
    expect(bed.both(port, "redis", STATUS.ok)).toEqual([2, 2]);
    six.destroy();
    four.destroy();
    server.close();
  });

  describe.concurrent("that wait, or are older", () => {
    it("counts a request as unanswered when its client is killed", async () => {
      const { server, port } = await listen("127.0.0.1", (socket) =>
        socket.on("error", () => socket.destroy()).resume(),
      );
      const client = spawn(process.execPath, [
        "-e",
        `require("http").get({host:"127.0.0.1",port:${port},path:"/slow"}).on("socket",(s)=>s.on("connect",()=>setTimeout(()=>console.log("sent"),20)));`,
      ]);
      await new Promise((resolve) => client.stdout.once("data", resolve));
      await bed.until(
        "a waiting request at both ends",
        () => bed.find({ port }).filter((e) => e.pendingCount === 1).length === 2,
      );
      client.kill("SIGKILL");
      await bed.until("unanswered at both ends", () => bed.both(port, "http", STATUS.unanswered).every((n) => n === 1));
      await bed.settled();
      for (const edge of bed.find({ port })) {
        expect(edge.pendingCount).toBe(0);
        // while it waited its age rose; then one row of zeros, and no more
        const ages = edge.pendings.map((pending) => pending.oldestMs);
        expect(ages.at(-1)).toBe(0);
        expect(ages.filter((age) => age === 0)).toHaveLength(1);
      }
      server.close();
    });

    itWith(["postgres"], "shows a lock while it is held, at both ends", async () => {
      const postgres = await startPostgres();
      postgres.run("create table t(id int)");
      const session = (): ReturnType<typeof spawn> =>
        spawn("psql", ["-h", "127.0.0.1", "-p", String(postgres.port), "-U", "postgres", "-AtqX"], {
          env: { ...process.env, PGSSLMODE: "disable" },
          stdio: ["pipe", "pipe", "ignore"],
        });
      const holder = session();
      const said = new Promise((resolve) => holder.stdout?.once("data", resolve));
      holder.stdin?.write("begin;\nlock table t;\nselect 'locked';\n");
      await said;
      const waiter = session();
      const done = new Promise((resolve) => waiter.stdout?.once("data", resolve));
      waiter.stdin?.write("select count(*) from t;\n");
      const waits = (): readonly number[] =>
        bed.find({ port: postgres.port }).map((edge) => (edge.pendingCount > 0 ? edge.pendingOldestMs : 0));
      await bed.until("an age above one second at both ends", () => waits().filter((age) => age > 1_000).length === 2);
      const first = Math.max(...waits());
      await bed.settled();
      expect(Math.max(...waits())).toBeGreaterThan(first);
      holder.stdin?.write("rollback;\n");
      await done;
      await bed.until("nothing to wait", () => waits().every((age) => age === 0));
      holder.stdin?.end();
      waiter.stdin?.end();
      await postgres.stop();
    });

    itWith(
      ["redis"],
      "sees sockets that are older than it, in their roles, and loses no count while it is not read",
      async () => {
        const redis = await startRedis();
        const socket = await open(redis.port);
        await exchange(socket, REDIS_SET, (answer) => answer === "+OK\r\n");
        const late = await ProbeBed.start();
        try {
          expect(late.capabilities.filter((one) => one.state === "off")).toEqual([]);
          for (const role of [ROLE.client, ROLE.server])
            expect(late.find({ role, port: redis.port })[0]).toMatchObject({ opens: 0, active: 1 });
          for (let i = 0; i < 100; i++) await exchange(socket, REDIS_SET, (answer) => answer === "+OK\r\n");
          late.pause();
          for (let i = 0; i < 400; i++) await exchange(socket, REDIS_SET, (answer) => answer === "+OK\r\n");
          await bed.settled();
          late.resume();
          await late.settled();
          expect(late.both(redis.port, "redis", STATUS.ok)).toEqual([500, 500]);
          expect(late.find({ role: ROLE.server, port: redis.port })[0]?.edge.tgid).toBe(redis.child.pid);
        } finally {
          await late.stop();
          socket.destroy();
          await redis.stop();
        }
      },
    );

    itWith(["redis"], "forgets idle edges without losing a count, and knows them again", async () => {
      const redis = await startRedis();
      const short = await ProbeBed.start(probePath, "--idle", "1");
      const call = async (): Promise<void> => {
        const socket = await open(redis.port);
        await exchange(socket, REDIS_SET.repeat(7), (answer) => answer.length === 35);
        socket.destroy();
      };
      try {
        await call();
        await short.until("both ends gone", () => short.gone.length >= 2, 15_000);
        await call();
        await short.settled();
        expect(short.both(redis.port, "redis", STATUS.ok)).toEqual([14, 14]);
        const ids = short.find({ role: ROLE.server, port: redis.port }).map((sum) => sum.edge.id);
        expect(ids.length).toBeGreaterThanOrEqual(2);
        expect(short.gone).toContain(Math.min(...ids));
        expect(short.self("evicted")).toBeGreaterThan(0);
      } finally {
        await short.stop();
        await redis.stop();
      }
    });
  });

  itWith(["netns", "python"], "sees other network namespaces", async () => {
    // brings up the new namespace's loopback, serves one connection there, and says so on its output
    const child = spawn("unshare", [
      "--net",
      "python3",
      "-c",
      `import socket,struct,fcntl,os,sys
s=socket.socket();fcntl.ioctl(s,0x8914,struct.pack("16sh14x",b"lo",1|64))
l=socket.socket();l.bind(("127.0.0.1",0));l.listen()
c=socket.create_connection(l.getsockname());a,_=l.accept()
for i in range(25):
  c.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n");a.recv(100);a.sendall(b"+PONG\\r\\n");c.recv(100)
print(l.getsockname()[1],os.readlink("/proc/self/ns/net")[5:-1],flush=True);sys.stdin.read()`,
    ]);
    let line = "";
    await new Promise<void>((resolve) =>
      child.stdout.on("data", (data: Buffer) => {
        line += data.toString();
        if (line.includes("\n")) resolve();
      }),
    );
    const [port = 0, netns = 0] = line.trim().split(" ").map(Number);
    await bed.settled();
    expect(bed.find({ port }).map((sum) => [sum.edge.netns, sum.edge.role, sum.active])).toEqual(
      expect.arrayContaining([
        [netns, ROLE.client, 1],
        [netns, ROLE.server, 1],
      ]),
    );
    expect(bed.both(port, "redis", STATUS.ok)).toEqual([25, 25]);
    child.stdin.end();
  });

  // last, since it fills the tables of every probe
  it("folds callers into one edge when its table is full, counts that, and loses no connection", async () => {
    const crowded = await ProbeBed.start();
    const callers = 9_000;
    const { server, port } = await listen("127.0.0.1", (socket) => socket.end());
    const call = (i: number): Promise<void> =>
      new Promise((resolve, reject) => {
        const localAddress = `127.${1 + (i >> 14)}.${(i >> 7) & 127}.${1 + (i & 127)}`;
        const socket = connect({ port, host: "127.0.0.1", localAddress });
        socket.once("error", reject).once("close", () => resolve());
        socket.resume();
      });
    try {
      for (let i = 0; i < callers; i += 100) await Promise.all(Array.from({ length: 100 }, (_, k) => call(i + k)));
      await crowded.settled();
      const edges = crowded.find({ role: ROLE.server, port });
      expect(edges.reduce((sum, edge) => sum + edge.opens, 0)).toBe(callers);
      const [folded, ...more] = edges.filter((sum) => sum.edge.peer === "");
      expect(more).toEqual([]);
      expect(folded?.opens).toBeGreaterThan(callers - 8_192 - 1);
      expect(crowded.self("edgesRefused")).toBeGreaterThanOrEqual(folded?.opens ?? 0);
      expect(crowded.self("edges")).toBeLessThanOrEqual(8_192 + 1_024);
      expect(crowded.self("rssBytes")).toBeLessThan(16e6);
    } finally {
      await crowded.stop();
      server.close();
    }
  });
});
