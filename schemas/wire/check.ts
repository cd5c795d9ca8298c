/**
 * Checks of every body but `observe`: decoded msgpack in, typed body out, FrameError("body") with the field's name
 * otherwise. Unknown fields are left out; where the caller shows losses they are counted (`skipped`).
 */
import { decodeTable } from "./columns.ts";
import type { Table, TableShape } from "./columns.ts";
import { ColumnError, ELEMENT } from "./columns.ts";
import {
  amount,
  bytesOrEmpty,
  isMap,
  list,
  map,
  nonEmpty,
  oneOf,
  refuse,
  text,
  unknownFields,
  whole,
  U32_MAX,
} from "./fields.ts";
import type { Fields } from "./fields.ts";
import { FrameError } from "./frame.ts";
import { SAMPLES_SHAPE } from "./link.ts";
import type {
  AckBody,
  Capability,
  CreditBody,
  GoawayBody,
  HelloBody,
  PolicyBody,
  SeriesDefinition,
  ServerHelloBody,
} from "./link.ts";

const MAX_CAPABILITIES = 256;
const MAX_SERIES = 200_000;
const MAX_LABELS = 64;
const MAX_SAMPLES = 1_000_000;
const MAX_POLICIES = 100_000;
const LANES = ["observe", "store"] as const;

export interface DecodedStore {
  readonly epoch: number;
  readonly sequence: number;
  readonly monoMs: number;
  readonly series: readonly SeriesDefinition[];
  readonly samples: Table<typeof SAMPLES_SHAPE>;
  /** an OTLP ExportTraceServiceRequest, unread; empty: none */
  readonly spans: Uint8Array;
  readonly dropped: number;
  /** what a newer agent sent and this side does not know, by kind */
  readonly skipped: Readonly<Record<string, number>>;
}

/** decodeTable with a bound of its own, so that one narrow column cannot make us allocate many wide ones. */
export const table = <S extends TableShape>(
  path: string,
  shape: S,
  wire: unknown,
  maxRows: number,
): { readonly table: Table<S>; readonly unknownColumns: number } => {
  if (isMap(wire)) {
    for (const column in shape) {
      const bytes = wire[column];
      const type = shape[column];
      if (bytes instanceof Uint8Array && type !== undefined && bytes.byteLength > maxRows * ELEMENT[type].bytes)
        refuse(`${path}.${column}`, `${bytes.byteLength / ELEMENT[type].bytes} rows, expected at most ${maxRows}`);
    }
  }
  try {
    return decodeTable(path, shape, wire);
  } catch (cause) {
    if (cause instanceof ColumnError) throw new FrameError("body", cause.message);
    throw cause;
  }
};

const version = (path: string, value: unknown): readonly [number, number] => {
  const parts = list(path, value, 2);
  if (parts.length !== 2) refuse(path, `${parts.length} entries, expected [major, minor]`);
  return [whole(`${path}[0]`, parts[0], 255), whole(`${path}[1]`, parts[1], 255)];
};

const capability = (path: string, value: unknown): Capability => {
  const c = map(path, value);
  return {
    feature: nonEmpty(`${path}.feature`, c["feature"], 128),
    state: oneOf(`${path}.state`, c["state"], ["on", "off", "degraded"]),
    errno: whole(`${path}.errno`, c["errno"], U32_MAX),
    reason: text(`${path}.reason`, c["reason"]),
  };
};

export const checkHello = (body: unknown): HelloBody => {
  const b = map("hello", body);
  return {
    protocol: version("hello.protocol", b["protocol"]),
    agentId: nonEmpty("hello.agentId", b["agentId"], 256),
    epoch: whole("hello.epoch", b["epoch"]),
    cluster: nonEmpty("hello.cluster", b["cluster"], 256),
    node: nonEmpty("hello.node", b["node"], 256),
    key: text("hello.key", b["key"], 256),
    version: text("hello.version", b["version"], 128),
    monoMs: amount("hello.monoMs", b["monoMs"]),
    wallMs: amount("hello.wallMs", b["wallMs"]),
    kernel: text("hello.kernel", b["kernel"], 256),
    capabilities: list("hello.capabilities", b["capabilities"], MAX_CAPABILITIES).map((c, i) =>
      capability(`hello.capabilities[${i}]`, c),
    ),
  };
};

export const checkServerHello = (body: unknown): ServerHelloBody => {
  const b = map("hello", body);
  return {
    protocol: version("hello.protocol", b["protocol"]),
    serverId: nonEmpty("hello.serverId", b["serverId"], 256),
    serverMs: amount("hello.serverMs", b["serverMs"]),
    ...(b["have"] === undefined ? {} : { have: b["have"] === null ? null : checkHave(b["have"]) }),
  };
};

const checkHave = (value: unknown): { epoch: number; window: number } => {
  const have = map("hello.have", value);
  return { epoch: whole("hello.have.epoch", have["epoch"]), window: whole("hello.have.window", have["window"]) };
};

export const checkAck = (body: unknown): AckBody => {
  const b = map("ack", body);
  return {
    lane: oneOf("ack.lane", b["lane"], LANES),
    epoch: whole("ack.epoch", b["epoch"]),
    upTo: whole("ack.upTo", b["upTo"]),
    echoMonoMs: amount("ack.echoMonoMs", b["echoMonoMs"]),
    serverMs: amount("ack.serverMs", b["serverMs"]),
  };
};

export const checkCredit = (body: unknown): CreditBody => {
  const b = map("credit", body);
  return { lane: oneOf("credit.lane", b["lane"], LANES), frames: whole("credit.frames", b["frames"], 65_535) };
};

const GOAWAY = ["key", "version", "duplicate", "bad-frame", "shutdown", "timeout", "oversized", "again"] as const;

export const checkGoaway = (body: unknown): GoawayBody => {
  const b = map("goaway", body);
  return {
    code: oneOf("goaway.code", b["code"], GOAWAY),
    message: text("goaway.message", b["message"], 4096),
    retryAfterMs: amount("goaway.retryAfterMs", b["retryAfterMs"]),
  };
};

const amounts = (path: string, value: unknown): Readonly<Record<string, number>> => {
  const given = map(path, value);
  const names = Object.keys(given);
  if (names.length > MAX_POLICIES) refuse(path, `${names.length} entries, expected at most ${MAX_POLICIES}`);
  const read: Record<string, number> = {};
  for (const name of names) read[name] = amount(`${path}.${name.slice(0, 200)}`, given[name]);
  return read;
};

export const checkPolicy = (body: unknown): PolicyBody => {
  const { slowMs, edges } = map("policy", body);
  return {
    slowMs: amounts("policy.slowMs", slowMs),
    ...(edges === undefined ? {} : { edges: amounts("policy.edges", edges) }),
  };
};

const labels = (path: string, value: unknown): Readonly<Record<string, string>> => {
  const source: Fields = map(path, value);
  const names = Object.keys(source);
  if (names.length > MAX_LABELS) refuse(path, `${names.length} labels, expected at most ${MAX_LABELS}`);
  const read: Record<string, string> = {};
  for (const name of names) read[nonEmpty(`${path} (a name)`, name, 256)] = text(`${path}.${name}`, source[name]);
  return read;
};

const STORE_FIELDS = new Set(["epoch", "sequence", "monoMs", "series", "samples", "spans", "dropped"]);

export const checkStore = (body: unknown): DecodedStore => {
  const b = map("store", body);
  const { table: samples, unknownColumns } = table("store.samples", SAMPLES_SHAPE, b["samples"], MAX_SAMPLES);
  for (let i = 0; i < samples.rows; i++)
    if (!(Number.isFinite(samples.timeMs[i]) && (samples.timeMs[i] ?? -1) >= 0))
      refuse("store.samples.timeMs", `${samples.timeMs[i]} in row ${i}, expected milliseconds since the epoch`);
  return {
    epoch: whole("store.epoch", b["epoch"]),
    sequence: whole("store.sequence", b["sequence"]),
    monoMs: amount("store.monoMs", b["monoMs"]),
    series: list("store.series", b["series"], MAX_SERIES).map((one, i) => {
      const path = `store.series[${i}]`;
      const s = map(path, one);
      return {
        id: whole(`${path}.id`, s["id"], U32_MAX),
        name: nonEmpty(`${path}.name`, s["name"], 256),
        labels: labels(`${path}.labels`, s["labels"]),
      };
    }),
    samples,
    spans: bytesOrEmpty("store.spans", b["spans"]),
    dropped: amount("store.dropped", b["dropped"]),
    skipped: { columns: unknownColumns, fields: unknownFields(b, STORE_FIELDS) },
  };
};
