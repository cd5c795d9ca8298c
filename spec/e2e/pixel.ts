/**
 * How long a request takes from the kernel to the screen. Small HTTP servers that nobody else calls are asked once each,
 * at times that do not follow the agent's second; the page has the map open. The request's time is taken before it is
 * sent, the pixel's when the map was painted from data that has it.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Page } from "playwright-core";
import { WebSocket } from "ws";
import type { PageMessage, ServiceCard } from "../../schemas/wire/page.ts";
import { paints } from "./browser.ts";

const SERVER = `import { createServer } from "node:http";
const server = createServer((_, response) => response.end("ok"));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit());
`;

interface Target {
  readonly name: string;
  readonly port: number;
  readonly child: ChildProcess;
}

const startTarget = async (folder: string, name: string): Promise<Target> => {
  const file = join(folder, `${name}.mjs`);
  await writeFile(file, SERVER);
  const child = spawn(process.execPath, [file], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { name, port: Number(line), child };
};

const ask = (port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, agent: false }, (response) => {
      response.resume().on("end", resolve);
    }).on("error", reject);
  });

/** Follows the map like a page does. */
class MapReader {
  readonly #socket: WebSocket;
  readonly #entries = new Map<string, unknown>();
  readonly #waiting = new Set<{
    readonly name: string;
    readonly has: (card: ServiceCard) => boolean;
    readonly found: (nowMs: number) => void;
  }>();

  constructor(url: string) {
    this.#socket = new WebSocket(`${url.replace(/^http/, "ws")}/live`);
    this.#socket.on("open", () => this.#socket.send(JSON.stringify({ type: "subscribe", topic: "map" })));
    this.#socket.on("message", (data) => this.#take(JSON.parse(String(data)) as PageMessage));
  }

  #take(message: PageMessage): void {
    if (message.type !== "snapshot" && message.type !== "delta") return;
    const set = message.type === "snapshot" ? message.entries : message.set;
    for (const [key, value] of Object.entries(set)) this.#entries.set(key, value);
    for (const wait of this.#waiting)
      for (const [key, value] of this.#entries)
        if (key.endsWith(`/${wait.name}`) && key.startsWith("node:") && wait.has(value as ServiceCard)) {
          this.#waiting.delete(wait);
          wait.found(message.nowMs);
          break;
        }
  }

  /** Server time of the first message in which the service is as asked. */
  until(name: string, has: (card: ServiceCard) => boolean, withinMs: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const wait = { name, has, found: resolve };
      const timer = setTimeout(() => {
        this.#waiting.delete(wait);
        reject(new Error(`${name} was not on the map as expected within ${withinMs} ms`));
      }, withinMs);
      this.#waiting.add({ ...wait, found: (nowMs) => (clearTimeout(timer), resolve(nowMs)) });
    });
  }

  close(): void {
    this.#socket.close();
  }
}

const firstPaint = async (page: Page, nowMs: number, withinMs: number): Promise<number> => {
  const until = Date.now() + withinMs;
  for (;;) {
    const paint = (await paints(page)).find((each) => each.nowMs >= nowMs);
    if (paint !== undefined) return paint.at;
    if (Date.now() > until) throw new Error(`the map was not painted within ${withinMs} ms`);
    await page.waitForTimeout(20);
  }
};

/** Milliseconds from request to pixel, one for each of `count` servers, in the order of asking. */
export const measurePixels = async (url: string, page: Page, count: number): Promise<readonly number[]> => {
  const folder = await mkdtemp(join(tmpdir(), "coroot-pixel-"));
  const reader = new MapReader(url);
  const targets: Target[] = [];
  try {
    for (let i = 0; i < count; i++) targets.push(await startTarget(folder, `pixel-${i}`));
    const times: number[] = [];
    for (const { name } of targets) await reader.until(name, () => true, 60_000);
    for (const [i, { name, port }] of targets.entries()) {
      // Spread over the second: the golden ratio's multiples fill it evenly.
      await page.waitForTimeout(200 + ((i * 618) % 1000));
      const at = Date.now();
      const seen = reader.until(name, (card) => card.inbound.requestsPerSecond > 0, 15_000);
      await ask(port);
      times.push((await firstPaint(page, await seen, 15_000)) - at);
    }
    return times;
  } finally {
    reader.close();
    for (const { child } of targets) child.stdin?.end();
    await rm(folder, { recursive: true, force: true });
  }
};

export const p95 = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * 0.95) - 1)] ?? Number.NaN;
};
