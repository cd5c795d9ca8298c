/**
 * Check of an `observe` body: decoded msgpack in, typed tables out. Row-level bounds are checked here (ports, buckets,
 * statuses, rows that other tables point to, finite and not negative figures); whether an edge or instance id is known
 * is the session's job, which keeps the dictionary. Names the field in FrameError("body").
 */
import { table } from "./check.ts";
import type { Column, Table, TableShape } from "./columns.ts";
import { amount, bytesOrEmpty, list, map, nonEmpty, refuse, text, unknownFields, whole, U32_MAX } from "./fields.ts";
import { HISTOGRAM_BUCKETS } from "./histogram.ts";
import {
  HIST_SHAPE,
  L7_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  PROTOCOLS,
  SERVICE_KINDS,
  STATUS,
  TCP_SHAPE,
  TROUBLE_SHAPE,
  USAGE_SHAPE,
} from "./observe.ts";
import type {
  AbsentDefinition,
  EdgeDefinition,
  InstanceDefinition,
  InstanceEvent,
  ListenDefinition,
  MountDefinition,
  NameDefinition,
  NatDefinition,
  SelfFigures,
  ServiceKind,
  VipDefinition,
} from "./observe.ts";

export const OBSERVE_LIMITS = {
  instances: 50_000,
  edges: 200_000,
  listens: 100_000,
  events: 50_000,
  tcp: 200_000,
  troubles: 200_000,
  l7: 200_000,
  hist: 1_000_000,
  pending: 200_000,
  pairs: 200_000,
  usage: 50_000,
  names: 50_000,
  nat: 50_000,
  vips: 20_000,
  absent: 20_000,
  mounts: 50_000,
} as const;
const MOST_BACKENDS = 1_000;
const MAX_NAME = 255;
const MAX_PATH = 4_096;

const KINDS: readonly string[] = SERVICE_KINDS;
const isKind = (kind: string): kind is ServiceKind => KINDS.includes(kind);
const PORT_MAX = 65_535;
const MAX_STATUS = Math.max(...Object.values(STATUS));

/** What a newer agent sent that this side does not know. Unknown protocols and kinds are kept as the nearest known. */
export interface Skipped {
  readonly columns: number;
  readonly fields: number;
  readonly protocols: number;
  readonly kinds: number;
}

export interface DecodedObserve {
  readonly window: number;
  readonly monoMs: number;
  readonly wallMs: number;
  /** null: the agent does not say */
  readonly serverMs: number | null;
  /** what is told is the difference of two scrapes, so many seconds apart. Never on the wire: agents of ours tell seconds. */
  readonly span?: number;
  readonly instances: readonly InstanceDefinition[];
  readonly edges: readonly EdgeDefinition[];
  /** null: unchanged since the last frame that had it */
  readonly listens: readonly ListenDefinition[] | null;
  readonly gone: readonly number[];
  readonly goneEdges: readonly number[];
  readonly events: readonly InstanceEvent[];
  readonly names: readonly NameDefinition[];
  readonly nat: readonly NatDefinition[];
  readonly vips: readonly VipDefinition[];
  readonly absent: readonly AbsentDefinition[];
  readonly mounts: readonly MountDefinition[];
  /** null: it says nothing of itself in this window */
  readonly self: SelfFigures | null;
  readonly tcp: Table<typeof TCP_SHAPE>;
  /** of kinds that this side does not know as well */
  readonly troubles: Table<typeof TROUBLE_SHAPE>;
  readonly l7: Table<typeof L7_SHAPE>;
  readonly hist: Table<typeof HIST_SHAPE>;
  readonly pending: Table<typeof PENDING_SHAPE>;
  readonly pairs: Table<typeof PAIR_SHAPE>;
  /** 16 bytes per row of `pairs` */
  readonly pairIps: Uint8Array;
  readonly usage: Table<typeof USAGE_SHAPE>;
  readonly skipped: Skipped;
}

const KNOWN = new Set(
  "window monoMs wallMs serverMs instances edges listens gone goneEdges events names nat vips absent mounts self tcp troubles l7 hist pending pairs pairIps usage".split(
    " ",
  ),
);

/** Every f64 column is an amount: finite and not negative. */
const amounts = <S extends TableShape>(path: string, shape: S, rows: Table<S>): void => {
  for (const name in shape) {
    if (shape[name] !== "f64") continue;
    const column = rows[name] as Column;
    for (let i = 0; i < column.length; i++) {
      const value = column[i] ?? 0;
      if (!(value >= 0 && value < Infinity))
        refuse(`${path}.${name}`, `${value} in row ${i}, expected a finite number that is not negative`);
    }
  }
};

const below = (path: string, column: Column, limit: number, what: string): void => {
  for (let i = 0; i < column.length; i++)
    if ((column[i] ?? 0) >= limit) refuse(path, `${column[i]} in row ${i}, expected less than ${limit} (${what})`);
};

/** Protocols that this side does not know count as traffic of protocol 0. Answers how many rows that were. */
const mapUnknownProtocols = (column: Uint8Array): number => {
  let n = 0;
  for (let i = 0; i < column.length; i++) {
    if ((column[i] ?? 0) >= PROTOCOLS.length) {
      column[i] = 0;
      n++;
    }
  }
  return n;
};

const edgeDefinition = (path: string, value: unknown): EdgeDefinition => {
  const e = map(path, value);
  return {
    id: whole(`${path}.id`, e["id"], U32_MAX),
    instance: whole(`${path}.instance`, e["instance"], U32_MAX),
    role: whole(`${path}.role`, e["role"], 1) === 0 ? 0 : 1,
    peer: text(`${path}.peer`, e["peer"], 64),
    port: whole(`${path}.port`, e["port"], PORT_MAX),
    local: text(`${path}.local`, e["local"], 64),
    netns: whole(`${path}.netns`, e["netns"]),
    ...(e["host"] === undefined ? {} : { host: nonEmpty(`${path}.host`, e["host"], MAX_NAME) }),
  };
};

const endpoint = (path: string, value: unknown): { address: string; port: number } => {
  const e = map(path, value);
  return {
    address: nonEmpty(`${path}.address`, e["address"], 64),
    port: whole(`${path}.port`, e["port"], PORT_MAX),
  };
};

const nameDefinition = (path: string, value: unknown): NameDefinition => {
  const n = map(path, value);
  return {
    address: nonEmpty(`${path}.address`, n["address"], 64),
    name: nonEmpty(`${path}.name`, n["name"], MAX_NAME),
  };
};

const absentDefinition = (path: string, value: unknown): AbsentDefinition => {
  const a = map(path, value);
  if (typeof a["known"] !== "boolean") refuse(`${path}.known`, "expected true or false");
  return {
    instance: whole(`${path}.instance`, a["instance"], U32_MAX),
    name: nonEmpty(`${path}.name`, a["name"], MAX_NAME),
    type: nonEmpty(`${path}.type`, a["type"], 64),
    count: whole(`${path}.count`, a["count"], U32_MAX),
    known: a["known"] === true,
  };
};

const mountDefinition = (path: string, value: unknown): MountDefinition => {
  const m = map(path, value);
  const inodesUsed = amount(`${path}.inodesUsed`, m["inodesUsed"]);
  if (inodesUsed > 1) refuse(`${path}.inodesUsed`, `${inodesUsed}, expected a share between 0 and 1`);
  return {
    instance: whole(`${path}.instance`, m["instance"], U32_MAX),
    path: nonEmpty(`${path}.path`, m["path"], MAX_PATH),
    device: text(`${path}.device`, m["device"], MAX_PATH),
    sizeBytes: amount(`${path}.sizeBytes`, m["sizeBytes"]),
    usedBytes: amount(`${path}.usedBytes`, m["usedBytes"]),
    availableBytes: amount(`${path}.availableBytes`, m["availableBytes"]),
    inodesUsed,
  };
};

const natDefinition = (path: string, value: unknown): NatDefinition => {
  const n = map(path, value);
  return {
    ...endpoint(path, n),
    actualAddress: nonEmpty(`${path}.actualAddress`, n["actualAddress"], 64),
    actualPort: whole(`${path}.actualPort`, n["actualPort"], PORT_MAX),
  };
};

const vipDefinition = (path: string, value: unknown): VipDefinition => {
  const v = map(path, value);
  return {
    ...endpoint(path, v),
    name: nonEmpty(`${path}.name`, v["name"], MAX_NAME),
    backends: list(`${path}.backends`, v["backends"], MOST_BACKENDS).map((one, i) =>
      endpoint(`${path}.backends[${i}]`, one),
    ),
  };
};

const MOST_FIGURES = 128;

const selfFigures = (path: string, value: unknown): SelfFigures => {
  const source = map(path, value);
  const names = Object.keys(source);
  if (names.length > MOST_FIGURES) refuse(path, `${names.length} figures, expected at most ${MOST_FIGURES}`);
  const read: Record<string, number> = {};
  for (const name of names) read[nonEmpty(`${path} (a name)`, name, 64)] = amount(`${path}.${name}`, source[name]);
  return read;
};

const listenDefinition = (path: string, value: unknown): ListenDefinition => {
  const l = map(path, value);
  return {
    instance: whole(`${path}.instance`, l["instance"], U32_MAX),
    address: nonEmpty(`${path}.address`, l["address"], 64),
    port: whole(`${path}.port`, l["port"], PORT_MAX),
    netns: whole(`${path}.netns`, l["netns"]),
  };
};

const optionalWhole = (path: string, value: unknown): number | null =>
  value === undefined || value === null ? null : whole(path, value, U32_MAX);

/** Null for an event kind that this side does not know. */
const instanceEvent = (path: string, value: unknown): InstanceEvent | null => {
  const e = map(path, value);
  const kind = text(`${path}.kind`, e["kind"], 64);
  if (kind !== "start" && kind !== "exit" && kind !== "oom" && kind !== "overflow") return null;
  const instance = whole(`${path}.instance`, e["instance"], U32_MAX);
  const atMs = amount(`${path}.atMs`, e["atMs"]);
  if (kind === "start") return { kind, instance, atMs };
  if (kind === "overflow")
    return {
      kind,
      instance,
      atMs,
      port: whole(`${path}.port`, e["port"], PORT_MAX),
      count: whole(`${path}.count`, e["count"], U32_MAX),
      limit: whole(`${path}.limit`, e["limit"], U32_MAX),
    };
  const pid = whole(`${path}.pid`, e["pid"], U32_MAX);
  if (kind === "oom") {
    const rssBytes = amount(`${path}.rssBytes`, e["rssBytes"]);
    if (e["anonBytes"] === undefined) return { kind, instance, atMs, pid, rssBytes };
    const anonBytes = amount(`${path}.anonBytes`, e["anonBytes"]);
    return {
      kind,
      instance,
      atMs,
      pid,
      rssBytes,
      anonBytes,
      shmemBytes: amount(`${path}.shmemBytes`, e["shmemBytes"]),
    };
  }
  return {
    kind,
    instance,
    atMs,
    pid,
    code: optionalWhole(`${path}.code`, e["code"]),
    signal: optionalWhole(`${path}.signal`, e["signal"]),
    left: whole(`${path}.left`, e["left"], U32_MAX),
  };
};

export const checkObserve = (body: unknown): DecodedObserve => {
  const b = map("observe", body);
  let columns = 0;
  let kinds = 0;

  const read = <S extends TableShape>(name: keyof typeof OBSERVE_LIMITS, shape: S): Table<S> => {
    const path = `observe.${name}`;
    const decoded = table(path, shape, b[name], OBSERVE_LIMITS[name]);
    columns += decoded.unknownColumns;
    amounts(path, shape, decoded.table);
    return decoded.table;
  };
  const entries = (
    name: "instances" | "edges" | "listens" | "events" | "names" | "nat" | "vips" | "absent" | "mounts",
  ): readonly unknown[] => list(`observe.${name}`, b[name], OBSERVE_LIMITS[name]);

  const instances = entries("instances").map((value, i): InstanceDefinition => {
    const path = `observe.instances[${i}]`;
    const d = map(path, value);
    const kind = nonEmpty(`${path}.kind`, d["kind"], 64);
    if (!isKind(kind)) kinds++;
    return {
      id: whole(`${path}.id`, d["id"], U32_MAX),
      namespace: text(`${path}.namespace`, d["namespace"]),
      kind: isKind(kind) ? kind : "Process",
      name: nonEmpty(`${path}.name`, d["name"]),
      instance: text(`${path}.instance`, d["instance"]),
      exe: text(`${path}.exe`, d["exe"], MAX_PATH),
      netns: whole(`${path}.netns`, d["netns"]),
      type: text(`${path}.type`, d["type"], 64),
      startedAtMs: amount(`${path}.startedAtMs`, d["startedAtMs"]),
    };
  });

  const events: InstanceEvent[] = [];
  entries("events").forEach((value, i) => {
    const event = instanceEvent(`observe.events[${i}]`, value);
    if (event === null) kinds++;
    else events.push(event);
  });

  const l7 = read("l7", L7_SHAPE);
  below("observe.l7.status", l7.status, MAX_STATUS + 1, "a status");
  const hist = read("hist", HIST_SHAPE);
  below("observe.hist.row", hist.row, l7.rows, "the rows of observe.l7");
  below("observe.hist.bucket", hist.bucket, HISTOGRAM_BUCKETS, "the buckets of a histogram");
  const pending = read("pending", PENDING_SHAPE);
  const pairs = read("pairs", PAIR_SHAPE);
  const pairIps = bytesOrEmpty("observe.pairIps", b["pairIps"]);
  if (pairIps.byteLength !== pairs.rows * 16)
    refuse("observe.pairIps", `${pairIps.byteLength} bytes, expected 16 for each of ${pairs.rows} pairs`);

  return {
    window: whole("observe.window", b["window"]),
    monoMs: amount("observe.monoMs", b["monoMs"]),
    wallMs: amount("observe.wallMs", b["wallMs"]),
    serverMs: b["serverMs"] === undefined ? null : amount("observe.serverMs", b["serverMs"]),
    instances,
    edges: entries("edges").map((value, i) => edgeDefinition(`observe.edges[${i}]`, value)),
    listens:
      b["listens"] === undefined || b["listens"] === null
        ? null
        : entries("listens").map((value, i) => listenDefinition(`observe.listens[${i}]`, value)),
    gone: list("observe.gone", b["gone"], OBSERVE_LIMITS.instances).map((id, i) =>
      whole(`observe.gone[${i}]`, id, U32_MAX),
    ),
    goneEdges: list("observe.goneEdges", b["goneEdges"], OBSERVE_LIMITS.edges).map((id, i) =>
      whole(`observe.goneEdges[${i}]`, id, U32_MAX),
    ),
    events,
    names: entries("names").map((one, n) => nameDefinition(`observe.names[${n}]`, one)),
    nat: entries("nat").map((one, n) => natDefinition(`observe.nat[${n}]`, one)),
    absent: entries("absent").map((one, n) => absentDefinition(`observe.absent[${n}]`, one)),
    mounts: entries("mounts").map((one, n) => mountDefinition(`observe.mounts[${n}]`, one)),
    vips: entries("vips").map((one, n) => vipDefinition(`observe.vips[${n}]`, one)),
    self: b["self"] === undefined ? null : selfFigures("observe.self", b["self"]),
    tcp: read("tcp", TCP_SHAPE),
    troubles: read("troubles", TROUBLE_SHAPE),
    l7,
    hist,
    pending,
    pairs,
    pairIps,
    usage: read("usage", USAGE_SHAPE),
    skipped: {
      protocols: mapUnknownProtocols(l7.protocol) + mapUnknownProtocols(pending.protocol),
      kinds,
      fields: unknownFields(b, KNOWN),
      columns,
    },
  };
};
