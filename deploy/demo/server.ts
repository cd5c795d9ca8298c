/**
 * The Coroot server as the demo meets it: a child process with an agent in it, its own data folder and a webhook, read
 * over HTTP like anybody would. Owned by the run. A server that ends by itself is told with the end of its log; an answer
 * of another form than expected fails with the field's name. The child is stopped, then killed, by the Cleanup.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CauseKind } from "../../schemas/incident.ts";
import { killIfAlive } from "./cgroups.ts";
import type { Cleanup } from "./cleanup.ts";
import { until } from "./clock.ts";

/** What the check reads of an incident. */
export interface IncidentSeen {
  readonly id: string;
  readonly status: string;
  readonly service: string;
  readonly headline: string;
  readonly suspectedAt: number;
  readonly openedAt: number | null;
  readonly resolvedAt: number | null;
  readonly cause: { readonly service: string; readonly kind: CauseKind } | null;
  /** its timeline and the causes it names, for a person who asks why; empty for a card */
  readonly account: readonly { readonly at: number | null; readonly text: string }[];
}

const causeKinds: Readonly<Record<CauseKind, true>> = {
  dependency_down: true,
  waiting_inside: true,
  cpu_throttling: true,
  memory: true,
  errors: true,
  cpu: true,
  latency: true,
  network: true,
  restarts: true,
  unknown: true,
};
const isCauseKind = (text: string): text is CauseKind => Object.hasOwn(causeKinds, text);

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const object = (value: unknown, field: string): Json => {
  if (isObject(value)) return value;
  throw new Error(`${field}: expected an object, got ${JSON.stringify(value)?.slice(0, 80)}`);
};
const text = (from: Json, field: string): string => {
  const value = from[field];
  if (typeof value === "string") return value;
  throw new Error(`${field}: expected a text, got ${JSON.stringify(value)?.slice(0, 80)}`);
};
const time = (from: Json, field: string): number | null => {
  const value = from[field];
  if (value === null || typeof value === "number") return value;
  throw new Error(`${field}: expected a number or null, got ${JSON.stringify(value)?.slice(0, 80)}`);
};

const readCause = (value: unknown): IncidentSeen["cause"] => {
  const cause = object(value, "cause");
  const kind = text(cause, "kind");
  if (!isCauseKind(kind)) throw new Error(`kind: expected one of ${Object.keys(causeKinds).join(", ")}, got "${kind}"`);
  return { service: text(cause, "service"), kind };
};

const list = (value: unknown): readonly Json[] => (Array.isArray(value) ? value.filter(isObject) : []);

const readAccount = (incident: Json, rca: unknown): IncidentSeen["account"] => [
  ...list(incident["timeline"]).map((entry) => ({
    at: time(entry, "at"),
    text: `${text(entry, "kind")}: ${text(entry, "text")}`,
  })),
  ...list(isObject(rca) ? rca["causes"] : []).map((cause, index) => ({
    at: null,
    text: `cause ${index + 1}: ${text(cause, "service")} ${text(cause, "kind")} (${text(cause, "confidence")}): ${text(cause, "headline")}`,
  })),
  ...list(isObject(rca) ? rca["ruledOut"] : []).map((out) => ({
    at: null,
    text: `ruled out: ${text(out, "service")}: ${text(out, "reason")}`,
  })),
];

/** An Incident, or an IncidentCard (whose cause is already the best one). */
export const readIncident = (value: unknown): IncidentSeen => {
  const incident = object(value, "incident");
  const rca = incident["rca"];
  const causes = isObject(rca) && Array.isArray(rca["causes"]) ? rca["causes"] : [];
  const best: unknown = isObject(rca) ? causes[0] : incident["cause"];
  const suspectedAt = time(incident, "suspectedAt");
  if (suspectedAt === null) throw new Error("suspectedAt: expected a number, got null");
  return {
    id: text(incident, "id"),
    status: text(incident, "status"),
    service: text(incident, "service"),
    headline: text(incident, "headline"),
    suspectedAt,
    openedAt: time(incident, "openedAt"),
    resolvedAt: time(incident, "resolvedAt"),
    cause: best === null || best === undefined ? null : readCause(best),
    account: readAccount(incident, rca),
  };
};

export class ServerClient {
  readonly url: string;
  constructor(url: string) {
    this.url = url.replace(/\/$/, "");
  }

  /** Who answers there. */
  async whoAnswers(): Promise<"coroot" | "another program" | "nobody"> {
    try {
      const response = await fetch(`${this.url}/health`, { signal: AbortSignal.timeout(2_000) });
      return /"serverId"/.test(await response.text()) ? "coroot" : "another program";
    } catch {
      // nobody listens, or not yet: that is what was asked
      return "nobody";
    }
  }

  async incidents(): Promise<readonly IncidentSeen[]> {
    return (await this.#entries("/api/incidents")).map(readIncident);
  }

  async incident(id: string): Promise<IncidentSeen> {
    const path = `/api/incidents/${encodeURIComponent(id)}`;
    const [incident] = await this.#entries(path);
    return readIncident(incident);
  }

  /** Features of the connected agents that are not on, one sentence each; also when no agent is there. */
  async blindSpots(): Promise<readonly string[]> {
    const agents = await this.#entries("/api/agents");
    if (agents.length === 0) return ["no agent is connected"];
    return agents.flatMap((value) => {
      const agent = object(value, "agent");
      const capabilities = Array.isArray(agent["capabilities"]) ? agent["capabilities"] : [];
      return capabilities.filter(isObject).flatMap((capability) => {
        const state = text(capability, "state");
        return state === "on" ? [] : [`${text(capability, "feature")} is ${state}: ${text(capability, "reason")}`];
      });
    });
  }

  /** A topic's values: {topic, nowMs, entries: {key: value}}. */
  async #entries(path: string): Promise<readonly unknown[]> {
    return Object.values(object(object(await this.#get(path), path)["entries"], `${path}: entries`));
  }

  async #get(path: string): Promise<unknown> {
    const response = await fetch(this.url + path, { signal: AbortSignal.timeout(5_000) });
    const body = await response.text();
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${body.slice(0, 200)}`);
    const parsed: unknown = JSON.parse(body);
    return parsed;
  }
}

/** dist/coroot.mjs, also when this runs from dist/chunks. */
const executable = (): string => {
  const here = dirname(fileURLToPath(import.meta.url));
  const places = ["coroot.mjs", "../coroot.mjs", "../../dist/coroot.mjs"].map((place) => join(here, place));
  const found = places.find((place) => existsSync(place));
  if (found === undefined) throw new Error(`the server is not built (none of ${places.join(", ")}): npm run build`);
  return found;
};

export const startServer = async (options: {
  readonly port: number;
  /** everything of this server goes below it */
  readonly folder: string;
  readonly webhook: string | null;
  readonly cleanup: Cleanup;
  readonly tell: (text: string) => void;
  readonly signal?: AbortSignal;
}): Promise<ServerClient> => {
  const { port, folder, webhook, cleanup, tell, signal } = options;
  const program = executable();
  const config = join(folder, "coroot.yaml");
  const logFile = join(folder, "coroot.log");
  await mkdir(join(folder, "data"), { recursive: true });
  const webhooks = webhook === null ? [] : [{ name: "demo", url: webhook }];
  // JSON is YAML too
  await writeFile(config, JSON.stringify({ alerts: { webhooks } }));
  const log = openSync(logFile, "a");
  const child = spawn("setpriv", ["--pdeathsig=TERM", process.execPath, program, "start"], {
    cwd: folder,
    env: {
      // settings meant for another server would make this one less than fresh
      ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("COROOT_"))),
      COROOT_PORT: String(port),
      COROOT_DATA: join(folder, "data"),
      COROOT_CONFIG: config,
    },
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  let stopping = false;
  let ended: string | null = null;
  const exited = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      ended = `could not be started: ${error.message}`;
      resolve();
    });
    child.once("exit", (code, killedBy) => {
      ended = killedBy === null ? `ended with exit code ${code}` : `was killed by ${killedBy}`;
      if (!stopping) tell(`the Coroot server ${ended}`);
      resolve();
    });
  });
  cleanup.add("Coroot server", async () => {
    stopping = true;
    if (child.pid === undefined) return;
    if (ended === null) killIfAlive(child.pid, "SIGTERM");
    const group = -child.pid;
    const force = setTimeout(() => killIfAlive(group), 10_000);
    await exited;
    clearTimeout(force);
    killIfAlive(group);
  });
  const client = new ServerClient(`http://127.0.0.1:${port}`);
  await until(
    "the Coroot server answers",
    60_000,
    async () => {
      if (ended !== null) {
        const said = (await readFile(logFile, "utf8")).trim().split("\n").slice(-8).join("\n");
        throw new Error(`the Coroot server ${ended}:\n${said}`);
      }
      return (await client.whoAnswers()) === "coroot" ? true : undefined;
    },
    { everyMs: 200, ...(signal === undefined ? {} : { signal }) },
  );
  return client;
};
