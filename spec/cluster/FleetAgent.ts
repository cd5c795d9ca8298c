/**
 * The real agent link with a made-up node behind it: a client that calls a number of services, second by second, with
 * counts that follow from the second alone, so that two runs can be compared to the request.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { Effect, Exit, Logger, LogLevel, Scope } from "effect";
import { makeLink, type Link } from "../../agent/node/link/Link.ts";
import { Catalog, type Window } from "../../agent/node/observe/Window.ts";
import { Spool } from "../../agent/node/spool/Spool.ts";
import { PROTOCOL } from "../../schemas/wire/frame.ts";
import { emptyTable, encodeTable, type TableShape, type WireTable } from "../../schemas/wire/columns.ts";
import { bucketOf } from "../../schemas/wire/histogram.ts";
import {
  HIST_SHAPE,
  L7_SHAPE,
  ROLE,
  STATUS,
  TCP_SHAPE,
  USAGE_SHAPE,
  type ListenDefinition,
} from "../../schemas/wire/observe.ts";

const LATENCY_MS = 5;

const wire = <S extends TableShape>(shape: S, rows: readonly Partial<Record<keyof S, number>>[]): WireTable => {
  const table = emptyTable(shape, rows.length);
  rows.forEach((row, i) => {
    for (const column of Object.keys(shape) as (keyof S)[])
      (table[column] as unknown as { [index: number]: number })[i] = row[column] ?? 0;
  });
  return encodeTable(shape, table);
};

export interface FleetOptions {
  readonly id: string;
  readonly key: string;
  /** of the servers, ws://…/agent */
  readonly urls: readonly string[];
  readonly services: number;
}

/** Requests of a service in a second when nothing is wrong. */
export const requestsOf = (service: number, second: number): number => 8 + ((second + service) % 5);

export class FleetAgent {
  readonly #options: FleetOptions;
  readonly #catalog = new Catalog();
  readonly #began = performance.now();
  readonly #epoch = Math.floor(Math.random() * 2 ** 40);
  readonly #folder = mkdtempSync(join(tmpdir(), "coroot-fleet-"));
  readonly #spool = new Spool({ folder: this.#folder, maxBytes: 1e6, segmentBytes: 1e6, segmentRecords: 10 });
  readonly #listens: readonly ListenDefinition[];
  readonly #scope = Effect.runSync(Scope.make());
  #timer: NodeJS.Timeout | undefined;
  #link: Link | null = null;
  #second = 0;
  /** services that fail now */
  readonly failing = new Set<number>();
  /** requests sent so far, by service, good and bad */
  readonly sent = new Map<number, { total: number; bad: number }>();

  private constructor(options: FleetOptions) {
    this.#options = options;
    const services = Array.from({ length: options.services }, (_, i) => i);
    for (const i of [-1, ...services])
      this.#catalog.addInstance({
        id: i + 2,
        namespace: options.id,
        kind: "SystemdUnit",
        name: i < 0 ? `client-${options.id}` : `svc-${i}`,
        instance: i < 0 ? "client" : `svc-${i}`,
        exe: "/bin/x",
        netns: 1,
        type: "",
        startedAtMs: 0,
      });
    for (const i of services)
      for (const role of [ROLE.client, ROLE.server])
        this.#catalog.addEdge({
          id: i * 2 + role + 1,
          instance: role === ROLE.client ? 1 : i + 2,
          role,
          peer: role === ROLE.client ? this.#address(i) : this.#address(-1),
          port: 80,
          local: role === ROLE.client ? "" : this.#address(i),
          netns: 1,
        });
    this.#listens = services.map((i) => ({ instance: i + 2, address: this.#address(i), port: 80, netns: 1 }));
  }

  static async start(options: FleetOptions): Promise<FleetAgent> {
    const agent = new FleetAgent(options);
    await agent.#run();
    return agent;
  }

  #address(i: number): string {
    const net = [...this.#options.id].reduce((n, c) => (n * 31 + c.charCodeAt(0)) % 200, 7);
    return `10.${net}.${Math.floor((i + 1) / 250)}.${((i + 1) % 250) + 1}`;
  }

  async #run(): Promise<void> {
    const monoMs = (): number => performance.now() - this.#began;
    const { id, key, urls } = this.#options;
    const link = makeLink({
      urls,
      epoch: this.#epoch,
      catalog: this.#catalog,
      spool: this.#spool,
      hello: Effect.sync(() => ({
        protocol: [PROTOCOL.major, PROTOCOL.minor],
        agentId: id,
        epoch: this.#epoch,
        cluster: "default",
        node: hostname(),
        key,
        version: "0",
        monoMs: monoMs(),
        wallMs: Date.now(),
        kernel: "6",
        capabilities: [],
      })),
      monoMs,
    });
    const quiet = Scope.extend(link, this.#scope).pipe(Logger.withMinimumLogLevel(LogLevel.None));
    this.#link = await Effect.runPromise(quiet);
    // Like the real one: a window ends with each whole second of its clock, which does not drift.
    const next = (): void => {
      const due = (Math.floor(monoMs() / 1_000) + 1) * 1_000;
      this.#timer = setTimeout(() => {
        this.#link?.offer(this.#window(due));
        next();
      }, due - monoMs());
    };
    next();
  }

  get link(): Link | null {
    return this.#link;
  }

  /** No new windows; what is there may still be sent. */
  pause(): void {
    clearTimeout(this.#timer);
  }

  #window(monoMs: number): Window {
    const second = this.#second++;
    const services = Array.from({ length: this.#options.services }, (_, i) => i);
    const l7: Partial<Record<keyof typeof L7_SHAPE, number>>[] = [];
    const hist: Partial<Record<keyof typeof HIST_SHAPE, number>>[] = [];
    const tcp: Partial<Record<keyof typeof TCP_SHAPE, number>>[] = [];
    for (const i of services) {
      const count = requestsOf(i, second);
      const bad = this.failing.has(i) ? count : 0;
      const sums = this.sent.get(i) ?? { total: 0, bad: 0 };
      this.sent.set(i, { total: sums.total + count, bad: sums.bad + bad });
      const status = bad > 0 ? STATUS.failed : STATUS.ok;
      for (const role of [ROLE.client, ROLE.server]) {
        const edge = i * 2 + role + 1;
        tcp.push({ edge, active: 1, bytesIn: 100, bytesOut: 100 });
        hist.push({ row: l7.length, bucket: bucketOf(LATENCY_MS), count });
        l7.push({ edge, protocol: 1, status, count, sumUs: LATENCY_MS * 1000 * count });
      }
    }
    return {
      window: second,
      monoMs,
      wallMs: Date.now(),
      gone: [],
      events: [],
      listens: { version: 1, list: this.#listens },
      edgeIds: services.flatMap((i) => [i * 2 + 1, i * 2 + 2]),
      tcp: wire(TCP_SHAPE, tcp),
      l7: wire(L7_SHAPE, l7),
      hist: wire(HIST_SHAPE, hist),
      pending: null,
      pairs: null,
      pairIps: null,
      usage: wire(
        USAGE_SHAPE,
        services.map((i) => ({ instance: i + 2, cpuMs: 10, memory: 1e6, processes: 1 })),
      ),
    };
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await Effect.runPromise(Scope.close(this.#scope, Exit.void));
    this.#spool.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
