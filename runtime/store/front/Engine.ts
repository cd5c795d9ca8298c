/**
 * The embedded ClickHouse engine: one data directory, several sessions on it. A session runs one query at a time; the
 * pool hands out readers and the one writer, and a control session that is only used to kill. Owned by the store
 * process. Opening fails with one clear message (directory in use, not writable, engine missing); a query that fails
 * leaves its session usable. Closing waits for running queries, then releases the directory's lock.
 */
import { accessSync, constants, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Session } from "chdb";
import { FrontError } from "./errors.ts";
import { bindStatement, placeholders } from "./sql.ts";

export interface EngineOptions {
  readonly data: string;
  readonly readers: number;
  /** the engine's own settings, by name */
  readonly settings: Readonly<Record<string, string | number>>;
  /** statements that may wait for a session; more are refused with code 202 */
  readonly waiting: number;
}

export type OpenFailure = "locked" | "not_writable" | "engine";

export class OpenError extends Error {
  readonly reason: OpenFailure;
  constructor(reason: OpenFailure, message: string) {
    super(message);
    this.name = "OpenError";
    this.reason = reason;
  }
}

/** A session with what was bound and chosen on it, since neither can be taken back. */
export interface Lane {
  readonly session: Session;
  readonly bound: Set<string>;
  /** types of columns by table, since the last definition */
  readonly types: Map<string, ReadonlyMap<string, string>>;
  database: string;
}

export interface Engine {
  readonly inbox: string;
  readonly use: <A>(kind: "read" | "write", job: (lane: Lane) => Promise<A>, signal: AbortSignal) => Promise<A>;
  /** Ends running statements whose log_comment is `mark`; how many were found. Never waits for their end. */
  readonly kill: (mark: string) => Promise<number>;
  /** Completes when the engine answers at all, however busy the sessions are. */
  readonly alive: () => Promise<void>;
  readonly close: () => Promise<void>;
}

const text = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const owner = (data: string): number | null => {
  try {
    const pid = Number(/^PID: (\d+)/.exec(readFileSync(join(data, "status"), "utf8"))?.[1]);
    process.kill(pid, 0);
    return pid === process.pid ? null : pid;
  } catch {
    return null;
  }
};

const prepareFolder = (data: string): { readonly engine: string; readonly inbox: string } => {
  const engine = join(data, "engine");
  const inbox = join(data, "inbox");
  try {
    mkdirSync(engine, { recursive: true, mode: 0o700 });
    mkdirSync(inbox, { recursive: true, mode: 0o700 });
    accessSync(engine, constants.W_OK | constants.X_OK);
    rmdirSync(mkdtempSync(join(data, "probe-")));
  } catch (error) {
    throw new OpenError("not_writable", `data directory ${data} cannot be written: ${text(error)}`);
  }
  return { engine, inbox };
};

interface Waiter {
  readonly start: (lane: Lane) => void;
}

interface Pool {
  readonly idle: Lane[];
  readonly waiters: Set<Waiter>;
}

export const openEngine = async (options: EngineOptions): Promise<Engine> => {
  const folders = prepareFolder(options.data);
  const { Session } = await import("chdb").catch((error: unknown) => {
    throw new OpenError("engine", `the embedded engine could not be loaded: ${text(error)}`);
  });
  const connectionArgs = Object.entries(options.settings).map(([name, value]) => `--${name}=${value}`);
  const sessions: Session[] = [];
  const open = (): Session => {
    try {
      const session = new Session(folders.engine, { connectionArgs });
      sessions.push(session);
      return session;
    } catch (error) {
      const pid = owner(folders.engine);
      if (pid !== null)
        throw new OpenError("locked", `data directory ${options.data} is in use by another store process (pid ${pid})`);
      throw new OpenError("engine", `the engine could not open ${folders.engine}: ${text(error)}`);
    }
  };
  const lane = (): Lane => ({ session: open(), bound: new Set(), types: new Map(), database: "default" });

  const pools: Record<"read" | "write", Pool> = {
    write: { idle: [lane()], waiters: new Set() },
    read: { idle: Array.from({ length: options.readers }, lane), waiters: new Set() },
  };
  const control = open();
  for (const left of readdirSync(folders.inbox)) rmSync(join(folders.inbox, left), { force: true });

  let closed = false;

  const give = (pool: Pool, free: Lane): void => {
    const next = pool.waiters.values().next();
    if (next.done === true) pool.idle.push(free);
    else {
      pool.waiters.delete(next.value);
      next.value.start(free);
    }
  };

  const take = (pool: Pool, signal: AbortSignal): Promise<Lane> => {
    if (closed) return Promise.reject(new FrontError(236, "ABORTED", "the store is shutting down"));
    if (signal.aborted) return Promise.reject(new FrontError(394, "QUERY_WAS_CANCELLED", "Query was cancelled"));
    const free = pool.idle.pop();
    if (free !== undefined) return Promise.resolve(free);
    if (pool.waiters.size >= options.waiting)
      return Promise.reject(
        new FrontError(
          202,
          "TOO_MANY_SIMULTANEOUS_QUERIES",
          `Too many simultaneous queries: ${options.waiting} are waiting already`,
        ),
      );
    return new Promise<Lane>((resolve, reject) => {
      const leave = (): void => {
        pool.waiters.delete(waiter);
        reject(new FrontError(394, "QUERY_WAS_CANCELLED", "Query was cancelled"));
      };
      const waiter: Waiter = {
        start: (taken) => {
          signal.removeEventListener("abort", leave);
          resolve(taken);
        },
      };
      signal.addEventListener("abort", leave, { once: true });
      pool.waiters.add(waiter);
    });
  };

  return {
    inbox: folders.inbox,
    use: async (kind, job, signal) => {
      const taken = await take(pools[kind], signal);
      try {
        return await job(taken);
      } finally {
        give(pools[kind], taken);
      }
    },
    kill: async (mark) => {
      const statement = `KILL QUERY WHERE Settings['log_comment'] = '${mark}' ASYNC`;
      return (await control.queryAsync(statement, { format: "TabSeparated" })).rowsRead;
    },
    alive: async () => {
      await control.queryAsync("SELECT 1", { format: "Null" });
    },
    close: async () => {
      closed = true;
      for (const session of sessions) session.close();
      const { drainPending } = await import("chdb");
      await drainPending();
    },
  };
};

/** Binds parameters and database on a lane. A name bound for an earlier query must not fill a place of this one. */
export const prepareLane = async (
  lane: Lane,
  statement: string,
  params: ReadonlyMap<string, string>,
  database: string,
): Promise<void> => {
  for (const name of placeholders(statement))
    if (!params.has(name) && lane.bound.has(name))
      throw new FrontError(456, "UNKNOWN_QUERY_PARAMETER", `Substitution \`${name}\` is not set`);
  if (lane.database !== database) {
    await lane.session.queryAsync(`USE \`${database}\``);
    lane.database = database;
  }
  if (params.size === 0) return;
  await lane.session.queryAsync(bindStatement(params));
  for (const name of params.keys()) lane.bound.add(name);
};
