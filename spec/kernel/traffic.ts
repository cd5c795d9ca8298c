/**
 * Clients for specs and benchmarks: keep-alive HTTP, PostgreSQL by pgbench and psql, Redis by redis-benchmark and by raw
 * commands. Each says how many requests it has made.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";

export interface Call {
  readonly method?: string;
  readonly path?: string;
  readonly body?: Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One keep-alive client of at most `sockets` connections. */
export class HttpClient {
  readonly port: number;
  private readonly agent: Agent;
  constructor(port: number, sockets = 1) {
    this.port = port;
    this.agent = new Agent({ keepAlive: true, maxSockets: sockets });
  }
  call({ method = "GET", path = "/", body, headers = {} }: Call = {}): Promise<number> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          host: "127.0.0.1",
          port: this.port,
          agent: this.agent,
          method,
          path,
          headers: body === undefined ? headers : { ...headers, "content-length": String(body.byteLength) },
        },
        (reply) => {
          reply.resume();
          reply.once("end", () => resolve(reply.statusCode ?? 0));
          reply.once("error", reject);
        },
      );
      sent.once("error", reject);
      sent.end(body);
    });
  }
  async times(n: number, call: Call = {}, width = 1): Promise<void> {
    for (let i = 0; i < n; i += width)
      await Promise.all(Array.from({ length: Math.min(width, n - i) }, () => this.call(call)));
  }
  close(): void {
    this.agent.destroy();
  }
}

export const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket));
    socket.setNoDelay(true);
    socket.once("error", reject);
  });

/** Sends bytes and reads until `done` says that the answer is whole. */
export const exchange = (socket: Socket, bytes: string | Buffer, done: (answer: string) => boolean): Promise<string> =>
  new Promise((resolve, reject) => {
    let answer = "";
    const take = (chunk: Buffer): void => {
      answer += chunk.toString("latin1");
      if (!done(answer)) return;
      socket.off("data", take).off("error", reject);
      resolve(answer);
    };
    socket.on("data", take).once("error", reject);
    socket.write(bytes);
  });

export const command = (...words: readonly string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`;

const plain = { ...process.env, PGSSLMODE: "disable" };
const place = (port: number): readonly string[] => ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres"];

/** Transactions done; `prepared` prepares once per connection, which is one request more for each. 0 per second: no limit. */
export const pgbench = (
  port: number,
  mode: string,
  clients: number,
  each: number,
  script: string,
  perSecond = 0,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(
      "pgbench",
      ["-n", ...place(port), "-M", mode, "-c", String(clients), "-t", String(each), "-f", script].concat(
        perSecond > 0 ? ["-R", String(perSecond), "postgres"] : ["postgres"],
      ),
      { env: plain, stdio: ["ignore", "ignore", "pipe"] },
    );
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    child.once("error", reject);
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`pgbench: ${said}`))));
  });

/** Runs statements one by one in one session; an error does not end it. */
export const psql = (port: number, sql: string): string => {
  const done = spawnSync("psql", [...place(port), "-AtqX"], {
    env: plain,
    input: sql,
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
  });
  if (done.error !== undefined) throw done.error;
  return done.stdout;
};

export const redisBenchmark = (
  port: number,
  n: number,
  depth: number,
  bytes: number,
  tests = "set",
  clients = 10,
): void => {
  execFileSync(
    "redis-benchmark",
    `-p ${port} -n ${n} -c ${clients} -P ${depth} -d ${bytes} -q -t ${tests}`.split(" "),
    {
      stdio: "ignore",
    },
  );
};
