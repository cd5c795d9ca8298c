/**
 * The cart of the demo shop: HTTP in front of a hash per user in Redis, with a hand-written RESP client.
 * Redis gone: every request tries to connect once and is answered 503 at once. Settings come from the
 * environment, faults from standard input as JSON lines (`errors`: share answered 500, `leakBytes`: kept
 * for ever per request); end of input stops it.
 */
import http from "node:http";
import net from "node:net";
import readline from "node:readline";

const { LISTEN_HOST, LISTEN_PORT, REDIS_HOST, REDIS_PORT, REDIS_PASSWORD } = process.env;
const COMMAND_TIMEOUT_MS = 1000;
const control = { errors: 0, leakBytes: 0 };
const leaked = [];

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => Object.assign(control, JSON.parse(line)))
  .on("close", () => process.exit(0));

/** One reply from `at`: [value, next position], or null when more bytes are needed. Errors come as Error values. */
const parseReply = (buffer, at) => {
  const end = buffer.indexOf("\r\n", at);
  if (end < 0) return null;
  const head = buffer.toString("utf8", at + 1, end);
  const next = end + 2;
  switch (String.fromCharCode(buffer[at])) {
    case "+":
      return [head, next];
    case "-":
      return [new Error(head), next];
    case ":":
      return [Number(head), next];
    case "$": {
      const length = Number(head);
      if (length < 0) return [null, next];
      if (buffer.length < next + length + 2) return null;
      return [buffer.toString("utf8", next, next + length), next + length + 2];
    }
    case "*": {
      const items = [];
      let position = next;
      for (let index = 0; index < Number(head); index += 1) {
        const item = parseReply(buffer, position);
        if (item === null) return null;
        items.push(item[0]);
        position = item[1];
      }
      return [items, position];
    }
    default:
      throw new Error(`unexpected reply type ${buffer[at]} from Redis`);
  }
};

/** A connected client; `dead` is set for good by the first socket error or late reply. */
class Redis {
  dead = false;
  #socket;
  #waiting = [];
  #buffer = Buffer.alloc(0);

  constructor(socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.#read(chunk));
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("Redis closed the connection")));
  }

  static connect() {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host: REDIS_HOST, port: Number(REDIS_PORT), timeout: COMMAND_TIMEOUT_MS });
      socket.once("error", reject);
      socket.once("timeout", () => socket.destroy(new Error("no connection to Redis in time")));
      socket.once("connect", () => {
        socket.setTimeout(0);
        socket.off("error", reject);
        const client = new Redis(socket);
        client.command("AUTH", REDIS_PASSWORD).then(() => resolve(client), reject);
      });
    });
  }

  command(...parts) {
    return new Promise((resolve, reject) => {
      if (this.dead) return reject(new Error("not connected to Redis"));
      const timer = setTimeout(() => this.#fail(new Error("Redis did not answer in time")), COMMAND_TIMEOUT_MS);
      this.#waiting.push({ resolve, reject, timer });
      const body = parts.map((part) => `$${Buffer.byteLength(String(part))}\r\n${part}\r\n`).join("");
      this.#socket.write(`*${parts.length}\r\n${body}`);
    });
  }

  #read(chunk) {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    let at = 0;
    while (at < this.#buffer.length) {
      const reply = parseReply(this.#buffer, at);
      if (reply === null) break;
      at = reply[1];
      const waiter = this.#waiting.shift();
      clearTimeout(waiter.timer);
      if (reply[0] instanceof Error) waiter.reject(reply[0]);
      else waiter.resolve(reply[0]);
    }
    this.#buffer = this.#buffer.subarray(at);
  }

  #fail(error) {
    this.dead = true;
    this.#socket.destroy();
    for (const waiter of this.#waiting.splice(0)) {
      clearTimeout(waiter.timer);
      waiter.reject(error);
    }
  }
}

const POOL_SIZE = 4;
const pool = Array.from({ length: POOL_SIZE }, () => null);
const connecting = Array.from({ length: POOL_SIZE }, () => null);
let turn = 0;

/** Connections are used in turn; a dead one is made anew by the request that meets it. */
const redis = async () => {
  const slot = (turn = (turn + 1) % POOL_SIZE);
  const client = pool[slot];
  if (client !== null && !client.dead) return client;
  connecting[slot] ??= Redis.connect().finally(() => (connecting[slot] = null));
  return (pool[slot] = await connecting[slot]);
};

const handle = async (request) => {
  if (control.leakBytes > 0) leaked.push(Buffer.alloc(control.leakBytes, 1));
  if (Math.random() < control.errors) return [500, { error: "coupon service: undefined is not a function" }];
  const user = /^\/cart\/(\w+)$/.exec(request.url)?.[1];
  if (user === undefined) return [404, { error: "no such page" }];
  const key = `cart:${user}`;
  try {
    const client = await redis();
    if (request.method === "POST") {
      const product = String(1 + Math.floor(Math.random() * 200));
      const [count] = await Promise.all([
        client.command("HINCRBY", key, product, 1),
        client.command("EXPIRE", key, 600),
      ]);
      return [200, { user, product, count }];
    }
    const fields = await client.command("HGETALL", key);
    return [200, { user, lines: fields.length / 2 }];
  } catch (error) {
    return [503, { error: `cart storage: ${error.message}` }];
  }
};

const send = (response, status, body) => {
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
};

const server = http.createServer((request, response) => {
  request.resume();
  void handle(request).then((answer) => send(response, ...answer));
});
server.keepAliveTimeout = 75_000;
server.listen(Number(LISTEN_PORT), LISTEN_HOST);
