/**
 * From the head of a request and of its answer to a span's name and attributes, by OpenTelemetry's semantic conventions
 * (https://opentelemetry.io/docs/specs/semconv/). Pure but for the statements that a connection has prepared. Never
 * throws: a head that makes no sense gives the protocol alone. Values of requests do not get into the result.
 */
import { PROTOCOLS, type ProtocolName, ROLE, STATUS } from "../../../schemas/wire/observe.ts";
import { type ProbeSpan, TOLD } from "../probe/ProbeTick.ts";
import { Bytes } from "./Bytes.ts";
import type { Entries } from "./hpack.ts";
import { isHttp2, readFrames } from "./http2.ts";
import { fingerprint, keyPattern, obfuscate, pathTemplate, summary } from "./text.ts";

export interface Described {
  readonly name: string;
  /** the span's own attributes beside those that all have */
  readonly attributes: Readonly<Record<string, string | number>>;
  /** what the request was to, without values; empty where it is not known */
  readonly endpoint: string;
  readonly parent: TraceParent | null;
  /** what went wrong, for a person; empty where nothing did */
  readonly problem: string;
}

export interface TraceParent {
  /** 32 hex digits */
  readonly traceId: string;
  /** 16 hex digits */
  readonly spanId: string;
  readonly sampled: boolean;
}

/** Statements by connection and name or number; bounded, the oldest go first. */
export class Statements {
  private readonly texts = new Map<string, string>();
  private readonly most: number;

  constructor(most = 10_000) {
    this.most = most;
  }

  set(key: string, text: string): void {
    this.texts.delete(key);
    this.texts.set(key, text);
    for (const oldest of this.texts.keys()) {
      if (this.texts.size <= this.most) return;
      this.texts.delete(oldest);
    }
  }

  get(key: string): string | undefined {
    return this.texts.get(key);
  }

  clear(): void {
    this.texts.clear();
  }

  get size(): number {
    return this.texts.size;
  }
}

type Attributes = Record<string, string | number>;

interface Head {
  readonly name: string;
  readonly attributes: Attributes;
  readonly parent?: TraceParent | null;
  /** code and words of a failure as the answer says them */
  readonly problem?: { readonly type: string; readonly text: string };
}

const MAX_QUERY = 512;
const MAX_FRAME = 1 << 28;

/** W3C Trace Context, version 00 and those after it: https://www.w3.org/TR/trace-context/#traceparent-header */
export const traceParent = (value: string): TraceParent | null => {
  const found = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(value.trim());
  if (found === null) return null;
  const [, version, traceId = "", spanId = "", flags = "", more] = found;
  if (version === "ff" || (version === "00" && more !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
};

const METHOD = /^(GET|PUT|POST|HEAD|PATCH|TRACE|DELETE|OPTIONS|CONNECT) (\S+)( HTTP\/1\.(\d)\r?\n|$|\r?$)/;

/** What is known of a request of HTTP, whatever its version. */
interface Asked {
  readonly method: string;
  readonly target: string;
  /** the target may go on */
  readonly cut?: boolean;
  readonly host: string | undefined;
  readonly traceparent: string | undefined;
  readonly status: string | undefined;
}

const asked = ({ method, target, cut = false, host, traceparent, status }: Asked): Head => {
  const template = method === "CONNECT" || target === "" ? "" : cut ? cutTemplate(target) : pathTemplate(target);
  const attributes: Attributes = { "http.request.method": method, "network.protocol.name": "http" };
  if (host !== undefined && /^[\w.[\]:-]{1,255}$/.test(host)) attributes["server.address"] = hostOf(host);
  if (status !== undefined) attributes["http.response.status_code"] = Number(status);
  if (template !== "") attributes["url.template"] = template;
  return {
    name: template === "" ? method : `${method} ${template}`,
    attributes,
    parent: traceparent === undefined ? null : traceParent(traceparent),
    ...(status !== undefined && Number(status) >= 400 ? { problem: { type: status, text: `HTTP ${status}` } } : {}),
  };
};

const http = (span: ProbeSpan, statements: Statements): Head | null => {
  if (isHttp2(span.head)) return http2(span, statements);
  const text = Buffer.from(span.head).toString("latin1");
  const lineEnd = text.indexOf("\n");
  const line = lineEnd < 0 ? text : text.slice(0, lineEnd + 1);
  const found = /^([A-Z]+) ([^\s]+)( |$)/.exec(line);
  if (found === null || !METHOD.test(`${found[1] ?? ""} x HTTP/1.1\n`)) return null;
  const [, method = "", target = ""] = found;
  // cut before its end, the target may be any other
  const cut = found[3] === "";
  if (!cut && lineEnd >= 0 && !/ HTTP\/1\.\d\r?\n$/.test(line)) return null;
  const fields = new Map<string, string>();
  for (let at = lineEnd < 0 ? text.length : lineEnd + 1; at < text.length; ) {
    const end = text.indexOf("\n", at);
    if (end < 0 || end - at < 2) break;
    const colon = text.indexOf(":", at);
    if (colon > at && colon < end) fields.set(text.slice(at, colon).toLowerCase(), text.slice(colon + 1, end).trim());
    at = end + 1;
  }
  const status = /^HTTP\/1\.\d ([1-9]\d\d)/.exec(Buffer.from(span.reply).toString("latin1"))?.[1];
  return asked({ method, target, cut, host: fields.get("host"), traceparent: fields.get("traceparent"), status });
};

/** Entries of the answers' tables are not told: what is not in the block itself stays unknown. */
const NO_ENTRIES: Entries = { get: () => undefined, set: () => undefined };

const http2 = (span: ProbeSpan, statements: Statements): Head | null => {
  const key = (number: number): string => `${span.socket} ${span.role} field ${number}`;
  const entries: Entries = {
    get: (number) => {
      const known = statements.get(key(number));
      const colon = known?.indexOf("\0") ?? -1;
      return known === undefined ? undefined : [known.slice(0, colon), known.slice(colon + 1)];
    },
    // others are not asked for
    set: (number, [name, value]) => void (name !== "" && statements.set(key(number), `${name}\0${value}`)),
  };
  const blocks = readFrames(span.head, span.inserted, entries);
  if ((span.told & ~TOLD.statement) === 0) return null;
  const [block] = blocks;
  if (block === undefined) return null;
  const { fields, stream } = block;
  const target = fields.get(":path") ?? "";
  const answer = new Map(
    readFrames(span.reply, 0, NO_ENTRIES).flatMap((one) => (one.stream === stream ? [...one.fields] : [])),
  );
  const traceparent = fields.get("traceparent");
  const host = fields.get(":authority") ?? fields.get("host");
  if (PROTOCOLS[span.protocol] === "grpc") return grpc(target, host, traceparent, answer.get("grpc-status"));
  const method = fields.get(":method") ?? "";
  if (!METHOD.test(`${method} x HTTP/1.1\n`)) return null;
  const status = /^[1-9]\d\d$/.exec(answer.get(":status") ?? "")?.[0];
  const head = asked({ method, target, host, traceparent, status });
  return { ...head, attributes: { ...head.attributes, "network.protocol.version": "2" } };
};

const GRPC_CODES =
  "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED".split(
    " ",
  );

/** https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ */
const grpc = (
  target: string,
  host: string | undefined,
  traceparent: string | undefined,
  status: string | undefined,
): Head => {
  const [, service = "", method = ""] = /^\/([\w.]{1,200})\/(\w{1,100})$/.exec(target) ?? [];
  const attributes: Attributes = { "rpc.system": "grpc" };
  if (host !== undefined && /^[\w.[\]:-]{1,255}$/.test(host)) attributes["server.address"] = hostOf(host);
  if (service !== "") {
    attributes["rpc.service"] = service;
    attributes["rpc.method"] = method;
  }
  const code = status === undefined ? undefined : GRPC_CODES[Number(status)];
  if (code !== undefined) attributes["rpc.grpc.status_code"] = Number(status);
  return {
    name: service === "" ? "grpc" : `${service}/${method}`,
    attributes,
    parent: traceparent === undefined ? null : traceParent(traceparent),
    ...(code === undefined || code === "OK" ? {} : { problem: { type: code, text: code } }),
  };
};

/** Its last segment may go on. */
const cutTemplate = (target: string): string => `${pathTemplate(target.slice(0, target.lastIndexOf("/") + 1) || "/")}…`;

const hostOf = (host: string): string => host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");

/** `cut`: the statement goes on behind what was captured. */
const statementHead = (system: string, sql: string, cut: boolean): Head => {
  const text = obfuscate(sql, system === "mysql" || system === "mariadb");
  const { operation, table } = summary(text);
  const attributes: Attributes = { "db.system.name": system };
  if (text === "") return { name: system, attributes };
  attributes["db.query.text"] = cut ? `${text.slice(0, MAX_QUERY)}…` : text.slice(0, MAX_QUERY);
  attributes["db.query.fingerprint"] = fingerprint(text);
  if (operation !== "") attributes["db.operation.name"] = operation;
  if (table !== "") attributes["db.collection.name"] = table;
  const name = [operation, table].filter((part) => part !== "").join(" ");
  attributes["db.query.summary"] = name;
  return { name: name === "" ? system : name, attributes };
};

const withProblem = (head: Head, problem: Head["problem"]): Head =>
  problem === undefined
    ? head
    : {
        ...head,
        attributes: { ...head.attributes, "db.response.status_code": problem.type },
        problem,
      };

const postgres = (span: ProbeSpan, statements: Statements): Head | null => {
  const r = new Bytes(span.head);
  const key = (name: string): string => `${span.socket} ${name}`;
  let found: Head | null = null;
  for (let i = 0; i < 16 && r.left >= 5 && found === null; i++) {
    const type = String.fromCharCode(r.u8() ?? 0);
    const length = r.i32() ?? 0;
    if (!"QPBDECSHFXdcfp".includes(type) || length < 4 || length > 1 << 30) return null;
    const end = r.at + length - 4;
    if (type === "Q") {
      const { text, whole } = r.cstring();
      found = statementHead("postgresql", text, !whole);
    } else if (type === "P") {
      const name = r.cstring();
      const { text, whole } = r.cstring();
      if (name.whole && name.text !== "") statements.set(key(name.text), whole ? text : `${text}…`);
      if (name.whole) found = statementHead("postgresql", text, !whole);
    } else if (type === "B") {
      r.cstring();
      const name = r.cstring();
      const known = name.whole ? statements.get(key(name.text)) : undefined;
      if (known !== undefined) found = statementHead("postgresql", known.replace(/…$/, ""), known.endsWith("…"));
    } else if (type === "F") found = { name: "FunctionCall", attributes: { "db.system.name": "postgresql" } };
    r.at = end;
  }
  return withProblem(found ?? { name: "postgresql", attributes: { "db.system.name": "postgresql" } }, pgProblem(span));
};

const pgProblem = ({ reply, status }: ProbeSpan): Head["problem"] => {
  if (status !== STATUS.failed) return undefined;
  const r = new Bytes(reply);
  for (let i = 0; i < 16 && r.left >= 5; i++) {
    const type = r.u8();
    const length = r.i32() ?? 0;
    if (length < 4) return undefined;
    const end = r.at + length - 4;
    if (type === 0x45 /* E */) {
      let code = "";
      for (let field = r.u8(); field !== undefined && field !== 0; field = r.u8()) {
        const { text, whole } = r.cstring();
        if (field === 0x43 /* C */ && whole && /^[0-9A-Z]{5}$/.test(text)) code = text;
      }
      return code === "" ? undefined : { type: code, text: `SQLSTATE ${code}` };
    }
    r.at = end;
  }
  return undefined;
};

const MYSQL_COMMANDS: Readonly<Record<number, string>> = {
  0x02: "USE",
  0x04: "FIELD LIST",
  0x09: "STATISTICS",
  0x0e: "PING",
  0x11: "CHANGE USER",
  0x1a: "RESET STATEMENT",
  0x1b: "SET OPTION",
  0x1c: "FETCH",
  0x1f: "RESET CONNECTION",
};

const mysql = (span: ProbeSpan, statements: Statements): Head | null => {
  const r = new Bytes(span.head);
  const length = r.u24le();
  const sequence = r.u8();
  const command = r.u8();
  if (length === undefined || length < 1 || sequence !== 0 || command === undefined) return null;
  const key = (id: number): string => `${span.socket} #${id}`;
  let found: Head | null = null;
  if (command === 0x03 || command === 0x16) {
    // parameters before the text, where the client sends attributes of the query
    if (command === 0x03 && r.bytes[r.at] === 0 && r.bytes[r.at + 1] === 1) r.skip(2);
    const sql = r.text(length - 1 - (r.at - 5));
    const cut = span.head.length < length + 4;
    found = statementHead("mysql", sql, cut);
    const answer = new Bytes(span.reply);
    if (command === 0x16 && answer.skip(4).u8() === 0) {
      const id = answer.u32le();
      if (id !== undefined) statements.set(key(id), cut ? `${sql}…` : sql);
    }
  } else if (command === 0x17) {
    const id = r.u32le();
    const known = id === undefined ? undefined : statements.get(key(id));
    found =
      known === undefined
        ? { name: "EXECUTE", attributes: { "db.system.name": "mysql", "db.operation.name": "EXECUTE" } }
        : statementHead("mysql", known.replace(/…$/, ""), known.endsWith("…"));
  } else {
    const name = MYSQL_COMMANDS[command];
    if (name !== undefined) found = { name, attributes: { "db.system.name": "mysql", "db.operation.name": name } };
  }
  if (found === null) return null;
  const answer = new Bytes(span.reply).skip(4);
  if (answer.u8() !== 0xff) return found;
  const code = answer.u16le();
  return withProblem(found, code === undefined ? undefined : { type: String(code), text: `error ${code}` });
};

/** Redis commands without a key behind their name. */
const KEYLESS = new Set(
  "PING ECHO AUTH HELLO SELECT INFO QUIT MULTI EXEC DISCARD UNWATCH DBSIZE FLUSHALL FLUSHDB TIME RANDOMKEY KEYS SCAN ROLE SAVE BGSAVE LASTSAVE PUBLISH SUBSCRIBE EVAL EVALSHA FCALL RESET SHUTDOWN READONLY READWRITE ASKING".split(
    " ",
  ),
);
const CONTAINERS = new Set(
  "CONFIG CLIENT CLUSTER ACL SCRIPT COMMAND MEMORY LATENCY MODULE SLOWLOG PUBSUB FUNCTION DEBUG".split(" "),
);

/** The words of the first command, as far as they were captured; null: no command. */
const respWords = (head: Uint8Array): readonly string[] | null => {
  const text = Buffer.from(head).toString("latin1");
  if (!text.startsWith("*")) {
    // inline, as people type it
    const line = /^(ping|info|quit|echo|command|time|dbsize)( [^\r\n]*)?(\r?\n|$)/i.exec(text);
    return line === null ? null : [line[1] ?? ""];
  }
  const begin = /^\*(\d{1,7})\r\n/.exec(text);
  if (begin === null) return null;
  const words: string[] = [];
  let at = begin[0].length;
  for (let i = 0; i < Math.min(4, Number(begin[1])) && at < text.length; i++) {
    const size = /^\$(\d{1,9})\r\n/.exec(text.slice(at, at + 13));
    if (size === null) {
      if (!/^\$\d*\r?$/.test(text.slice(at))) return null;
      break;
    }
    at += size[0].length;
    const end = at + Number(size[1]);
    words.push(text.slice(at, end));
    at = end + 2;
  }
  return words;
};

const redis = (span: ProbeSpan): Head | null => {
  const words = respWords(span.head);
  if (words === null || !/^[A-Za-z][A-Za-z0-9._-]{1,30}$/.test(words[0] ?? "")) return null;
  const command = (words[0] ?? "").toUpperCase();
  const operation =
    CONTAINERS.has(command) && /^[\w-]{1,20}$/.test(words[1] ?? "")
      ? `${command} ${(words[1] ?? "").toUpperCase()}`
      : command;
  const key = KEYLESS.has(command) || operation !== command ? undefined : words[1];
  const pattern = key === undefined || key === "" ? "" : keyPattern(Buffer.from(key, "latin1").toString("utf8"));
  const name = pattern === "" ? operation : `${operation} ${pattern}`;
  const head: Head = {
    name,
    attributes: { "db.system.name": "redis", "db.operation.name": operation, "db.query.text": name },
  };
  const said = Buffer.from(span.reply).toString("latin1");
  const error = span.status === STATUS.failed ? /(?:^|\r\n)-([A-Z]{2,20}) /.exec(said)?.[1] : undefined;
  return withProblem(head, error === undefined ? undefined : { type: error, text: error });
};

const MEMCACHED =
  /^(get|gets|gat|gats|set|add|replace|append|prepend|cas|incr|decr|delete|touch|mg|ms|md|ma|me|stats|version|verbosity|flush_all|mn) ?([^\s]*)/;
const MEMCACHED_BINARY = [
  "get",
  "set",
  "add",
  "replace",
  "delete",
  "incr",
  "decr",
  "quit",
  "flush_all",
  "get",
  "noop",
  "version",
  "get",
  "get",
  "append",
  "prepend",
  "stats",
] as const;

const memcached = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  let operation: string | undefined;
  let key = "";
  if (r.bytes[0] === 0x80) {
    const opcode = r.bytes[1] ?? 255;
    operation = MEMCACHED_BINARY[opcode] ?? (opcode >= 0x11 && opcode <= 0x1e ? "quiet" : undefined);
    const keyLength = r.skip(2).u16() ?? 0;
    const extras = r.u8() ?? 0;
    key = new Bytes(head).skip(24 + extras).text(Math.min(keyLength, 250));
  } else {
    const found = MEMCACHED.exec(r.bytes.toString("latin1"));
    operation = found?.[1];
    key = /^(stats|version|verbosity|flush_all|mn|me)$/.test(operation ?? "") ? "" : (found?.[2] ?? "");
  }
  if (operation === undefined) return null;
  const pattern = keyPattern(key);
  const name = pattern === "" ? operation : `${operation} ${pattern}`;
  return {
    name,
    attributes: { "db.system.name": "memcached", "db.operation.name": operation, "db.query.text": name },
  };
};

const NAME = /^[\w$.:/-]{1,200}$/;

const mongodb = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  const opcode = r.skip(12).u32le();
  const attributes: Attributes = { "db.system.name": "mongodb" };
  if (opcode === 2012) return { name: "mongodb", attributes };
  if (opcode === 2013) {
    if (r.skip(4).u8() !== 0) return { name: "mongodb", attributes };
  } else if (opcode === 2004) {
    r.skip(4).cstring();
    r.skip(8);
  } else return null;
  const type = r.skip(4).u8();
  const command = r.cstring();
  if (!command.whole || !NAME.test(command.text)) return { name: "mongodb", attributes };
  attributes["db.operation.name"] = command.text;
  const length = type === 2 ? r.u32le() : undefined;
  const collection = length === undefined ? "" : r.text(Math.min(length - 1, 200));
  if (!NAME.test(collection)) return { name: command.text, attributes };
  attributes["db.collection.name"] = collection;
  return { name: `${command.text} ${collection}`, attributes };
};

const KAFKA_CALLS = [
  "Produce",
  "Fetch",
  "ListOffsets",
  "Metadata",
  "LeaderAndIsr",
  "StopReplica",
  "UpdateMetadata",
  "ControlledShutdown",
  "OffsetCommit",
  "OffsetFetch",
  "FindCoordinator",
  "JoinGroup",
  "Heartbeat",
  "LeaveGroup",
  "SyncGroup",
  "DescribeGroups",
  "ListGroups",
  "SaslHandshake",
  "ApiVersions",
  "CreateTopics",
  "DeleteTopics",
  "DeleteRecords",
  "InitProducerId",
  "OffsetForLeaderEpoch",
  "AddPartitionsToTxn",
  "AddOffsetsToTxn",
  "EndTxn",
  "WriteTxnMarkers",
  "TxnOffsetCommit",
  "DescribeAcls",
  "CreateAcls",
  "DeleteAcls",
  "DescribeConfigs",
  "AlterConfigs",
  "AlterReplicaLogDirs",
  "DescribeLogDirs",
  "SaslAuthenticate",
  "CreatePartitions",
] as const;

const kafka = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  const size = r.i32() ?? 0;
  const call = r.i16();
  const version = r.i16();
  if (call === undefined || version === undefined || size < 8 || size > MAX_FRAME) return null;
  if (call < 0 || call > 100 || version < 0 || version > 30) return null;
  const operation = KAFKA_CALLS[call] ?? `call ${call}`;
  const attributes: Attributes = { "messaging.system": "kafka", "messaging.operation.name": operation };
  const client = r.skip(4).i16() ?? -1;
  r.skip(Math.max(0, client));
  if (client < -1 || client > 1024) return null;
  let topic = "";
  if (call === 0 && version >= 3 && version < 13) {
    const compact = version >= 9;
    if (compact) r.skip(r.varint() ?? 0);
    const id = compact ? (r.varint() ?? 0) - 1 : (r.i16() ?? -1);
    const acks = r.skip(Math.max(0, id)).i16();
    if (acks === undefined ? head.length >= size + 4 : acks < -1 || acks > 1) return null;
    r.skip(4);
    const topics = compact ? (r.varint() ?? 0) - 1 : (r.i32() ?? 0);
    if (topics > 0) {
      const length = compact ? (r.varint() ?? 0) - 1 : (r.i16() ?? 0);
      if (length > 0 && length <= r.left) topic = r.text(length);
    }
  }
  if (!/^[\w.-]{1,249}$/.test(topic)) return { name: operation, attributes };
  attributes["messaging.destination.name"] = topic;
  if (call === 0) attributes["messaging.operation.type"] = "send";
  return { name: `${operation} ${topic}`, attributes };
};

const CQL_CALLS: Readonly<Record<number, string>> = {
  1: "STARTUP",
  5: "OPTIONS",
  7: "QUERY",
  9: "PREPARE",
  10: "EXECUTE",
  11: "REGISTER",
  13: "BATCH",
  15: "AUTH_RESPONSE",
};

const cassandra = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  const version = r.u8();
  const opcode = r.skip(3).u8();
  if (version === undefined || version < 3 || version > 5 || opcode === undefined) return null;
  const call = CQL_CALLS[opcode];
  if (call === undefined) return null;
  const length = (opcode === 7 || opcode === 9) && (r.bytes[1] ?? 0) === 0 ? r.skip(4).i32() : undefined;
  if (length === undefined || length <= 0)
    return { name: call, attributes: { "db.system.name": "cassandra", "db.operation.name": call } };
  const cut = length > r.left;
  return statementHead("cassandra", r.text(length), cut);
};

/** A subject or routing key without what differs each time. */
const subject = (text: string): string =>
  text.startsWith("_INBOX") ? "_INBOX.>" : text.split(".").slice(0, 10).map(segmentOf).join(".");
const segmentOf = (part: string): string => keyPattern(part.replaceAll(/[:/|]/g, "_"));

const nats = ({ head }: ProbeSpan): Head | null => {
  const found = /^(H?PUB|SUB) ([^\s]{1,256})[ \r]/i.exec(Buffer.from(head).toString("latin1"));
  if (found === null) return null;
  const destination = subject(found[2] ?? "");
  const attributes: Attributes = {
    "messaging.system": "nats",
    "messaging.operation.name": "request",
    "messaging.destination.name": destination,
  };
  return { name: `request ${destination}`, attributes };
};

const AMQP: Readonly<Record<number, string>> = {
  0x14000a: "channel.open",
  0x140028: "channel.close",
  0x28000a: "exchange.declare",
  0x280014: "exchange.delete",
  0x32000a: "queue.declare",
  0x320014: "queue.bind",
  0x32001e: "queue.purge",
  0x320028: "queue.delete",
  0x320032: "queue.unbind",
  0x3c000a: "basic.qos",
  0x3c0014: "basic.consume",
  0x3c001e: "basic.cancel",
  0x3c0028: "publish",
  0x3c0046: "basic.get",
  0x5a000a: "tx.select",
  0x5a0014: "tx.commit",
  0x5a001e: "tx.rollback",
  0x55000a: "confirm.select",
};

const rabbitmq = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  if (r.u8() !== 1) return null;
  const method = r.skip(6).u16();
  const number = r.u16();
  if (method === undefined || number === undefined) return null;
  const operation = AMQP[method * 0x10000 + number];
  if (operation === undefined) return null;
  const attributes: Attributes = { "messaging.system": "rabbitmq", "messaging.operation.name": operation };
  if (operation !== "publish") return { name: operation, attributes };
  const exchange = r.skip(2).text(r.u8() ?? 0);
  const key = subject(r.text(r.u8() ?? 0));
  const destination = [exchange, key].filter((part) => part !== "").join(":");
  attributes["messaging.operation.type"] = "send";
  attributes["messaging.destination.name"] = destination;
  attributes["messaging.rabbitmq.destination.routing_key"] = key;
  return { name: `publish ${destination}`, attributes };
};

const ZOOKEEPER: Readonly<Record<number, string>> = {
  1: "create",
  2: "delete",
  3: "exists",
  4: "getData",
  5: "setData",
  6: "getACL",
  7: "setACL",
  8: "getChildren",
  9: "sync",
  12: "getChildren2",
  13: "check",
  14: "multi",
  15: "create2",
  16: "reconfig",
  19: "createContainer",
  21: "createTTL",
};

const zookeeper = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  const size = r.i32() ?? 0;
  if (size < 8 || size > MAX_FRAME) return null;
  const operation = ZOOKEEPER[r.skip(4).i32() ?? -1];
  if (operation === undefined) return null;
  const length = operation === "multi" || operation === "reconfig" ? 0 : (r.i32() ?? 0);
  const path = length > 0 && length <= r.left ? r.text(length) : "";
  const template = path.startsWith("/") ? pathTemplate(path) : "";
  const name = template === "" ? operation : `${operation} ${template}`;
  return {
    name,
    attributes: { "db.system.name": "zookeeper", "db.operation.name": operation, "db.query.text": name },
  };
};

const dubbo = ({ head }: ProbeSpan): Head | null => {
  const r = new Bytes(head);
  if (r.u16() !== 0xdabb) return null;
  const attributes: Attributes = { "rpc.system": "apache_dubbo" };
  r.at = 16;
  // strings of Hessian 2: short ones have their length in one byte, those below 1,024 in two
  const words: string[] = [];
  for (let i = 0; i < 4; i++) {
    const first = r.u8() ?? 255;
    const length = first < 0x20 ? first : first >= 0x30 && first <= 0x33 ? (first - 0x30) * 256 + (r.u8() ?? 0) : -1;
    if (length < 0 || length > r.left) return { name: "dubbo", attributes };
    words.push(r.text(length));
  }
  const [, service = "", , method = ""] = words;
  if (!NAME.test(service) || !NAME.test(method)) return { name: "dubbo", attributes };
  attributes["rpc.service"] = service;
  attributes["rpc.method"] = method;
  return { name: `${service}/${method}`, attributes };
};

type Describe = (span: ProbeSpan, statements: Statements) => Head | null;
const BY_PROTOCOL: Partial<Record<ProtocolName, Describe>> = {
  http,
  grpc: http2,
  postgres,
  mysql,
  redis,
  memcached,
  mongodb,
  kafka,
  cassandra,
  nats,
  rabbitmq,
  zookeeper,
  dubbo,
};

/** What a span of a protocol says when nothing of its head is known. */
const SYSTEMS: Partial<Record<ProtocolName, Attributes>> = {
  http: { "network.protocol.name": "http" },
  grpc: { "rpc.system": "grpc" },
  postgres: { "db.system.name": "postgresql" },
  kafka: { "messaging.system": "kafka" },
  nats: { "messaging.system": "nats" },
  rabbitmq: { "messaging.system": "rabbitmq" },
  dubbo: { "rpc.system": "apache_dubbo" },
};

/** Null: not to be told, or it only names a statement for later requests. */
export const describe = (span: ProbeSpan, statements: Statements): Described | null => {
  const protocol = PROTOCOLS[span.protocol];
  if (protocol === undefined || protocol === "dns") return null;
  const read = span.head.length === 0 ? undefined : BY_PROTOCOL[protocol];
  const head = read?.(span, statements) ?? null;
  if ((span.told & ~TOLD.statement) === 0) return null;
  const attributes = head?.attributes ?? { ...(SYSTEMS[protocol] ?? { "db.system.name": protocol }) };
  const name = head?.name ?? protocol;
  const client = span.role === ROLE.client;
  if (span.status === STATUS.unanswered) {
    attributes["error.type"] = "unanswered";
    return {
      name,
      attributes,
      endpoint: head === null ? "" : name,
      parent: head?.parent ?? null,
      problem: "no answer: the connection closed, or nobody waited any more",
    };
  }
  const failed = span.status === STATUS.failed || (client && protocol === "http" && span.status === STATUS.rejected);
  if (failed) attributes["error.type"] = head?.problem?.type ?? "failed";
  return {
    name,
    attributes,
    endpoint: head === null ? "" : name,
    parent: head?.parent ?? null,
    problem: failed ? (head?.problem?.text ?? "failed") : "",
  };
};
