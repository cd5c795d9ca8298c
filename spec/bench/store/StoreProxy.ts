/**
 * A way to a store process on loopback that stays the same while the store is killed and started again, with another port
 * and key each time. It can keep the answer of an insert for itself: then the rows are on disk, and who sent them does not
 * know. Owned by a figure; `close` ends its connections.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "../path/launch.ts";

export interface Kept {
  readonly table: string;
  /** the password that the server gave: by it the servers are told apart */
  readonly password: string;
}

const passwordOf = ({ authorization = "", "x-clickhouse-key": key }: IncomingMessage["headers"]): string =>
  typeof key === "string"
    ? key
    : (Buffer.from(authorization.replace(/^Basic /, ""), "base64")
        .toString()
        .split(":")[1] ?? "");

export class StoreProxy {
  readonly #data: string;
  readonly #server: Server;
  #child: ChildProcess | null = null;
  #to: { readonly port: number; readonly key: string } | null = null;
  #keep: ((kept: Kept) => void) | null = null;

  private constructor(data: string) {
    this.#data = data;
    this.#server = createServer((from, answer) => this.#forward(from, answer));
  }

  static async start(data: string): Promise<StoreProxy> {
    const proxy = new StoreProxy(data);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    await proxy.startStore();
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async startStore(): Promise<void> {
    const child = spawn(process.execPath, [join(root, "dist/coroot.mjs"), "store", "--data", this.#data], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    this.#child = child;
    const [line] = (await once(createInterface(child.stdout), "line")) as [string];
    const said = JSON.parse(line) as { ready: boolean; port: number; key: string; message?: string };
    if (!said.ready) throw new Error(`the store does not start: ${said.message}`);
    this.#to = said;
  }

  async endStore(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = null;
    this.#to = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  /** Resolves once the next insert of telemetry or samples is done, of which nobody hears the answer. */
  keepAnswer(withinMs: number): Promise<Kept> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#keep = null;
        reject(new Error(`no insert within ${withinMs / 1_000} s`));
      }, withinMs);
      this.#keep = (kept) => {
        this.#keep = null;
        clearTimeout(timer);
        resolve(kept);
      };
    });
  }

  /** Rows of a query, asked of the store itself. */
  async query<T>(sql: string): Promise<T[]> {
    if (this.#to === null) throw new Error("the store is down");
    const response = await fetch(`http://127.0.0.1:${this.#to.port}/?default_format=JSONEachRow`, {
      method: "POST",
      headers: { "x-clickhouse-user": "default", "x-clickhouse-key": this.#to.key },
      body: sql,
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as T);
  }

  #forward(from: IncomingMessage, answer: ServerResponse): void {
    const to = this.#to;
    if (to === null) return void from.socket.destroy();
    const { authorization: _theirs, host: _name, ...headers } = from.headers;
    const onward = request(
      {
        host: "127.0.0.1",
        port: to.port,
        path: from.url,
        method: from.method,
        headers: { ...headers, "x-clickhouse-user": "default", "x-clickhouse-key": to.key },
      },
      (response) => {
        const insert = /INSERT INTO \S*\b(samples|spans|logs)\b/.exec(
          decodeURIComponent((from.url ?? "").replaceAll("+", " ")),
        );
        const keep = this.#keep;
        if (keep !== null && insert?.[1] !== undefined && response.statusCode === 200) {
          const table = insert[1];
          response.resume().on("end", () => {
            from.socket.destroy();
            keep({ table, password: passwordOf(from.headers) });
          });
          return;
        }
        answer.writeHead(response.statusCode ?? 502, response.headers);
        response.pipe(answer);
        response.on("error", () => answer.destroy());
      },
    );
    onward.on("error", () => from.socket.destroy());
    from.on("error", () => onward.destroy());
    from.pipe(onward);
  }

  async close(): Promise<void> {
    await this.endStore("SIGTERM");
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
