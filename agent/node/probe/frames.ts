/**
 * Decoder of the probe's output: bytes in, in pieces of any size; capabilities, ticks and the end out. Pure, owned by
 * Probe.ts, one per life of the probe. Tables go straight into typed arrays, without an object per row. Bytes that are
 * no frame of ours raise ProbeFrameError with the field at fault; the decoder is then spent, since a pipe has no way to
 * find its step again. Memory is bounded by MAX_FRAME_BYTES per frame and MAX_TICK_BYTES per tick.
 */
import { addressText } from "../../../schemas/wire/address.ts";
import { emptyTable, type Table, type TableShape } from "../../../schemas/wire/columns.ts";
import { HISTOGRAM_BUCKETS } from "../../../schemas/wire/histogram.ts";
import type { Capability } from "../../../schemas/wire/link.ts";
import {
  HIST_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  PROTOCOLS,
  ROLE,
  STATUS,
  TCP_SHAPE,
  TROUBLE_SHAPE,
  TROUBLES,
} from "../../../schemas/wire/observe.ts";
import { FRAME, FRAME_MAGIC, FRAME_MAJOR, HEADER_BYTES, LAYOUT, MAX_FRAME_BYTES } from "./layout.ts";
import {
  PROBE_IO_SHAPE,
  PROBE_L7_SHAPE,
  TIMED,
  type ProbeAnswer,
  type ProbeEdge,
  type ProbeEvent,
  type ProbeListen,
  type ProbeMount,
  type ProbeNat,
  type ProbeSpan,
  type ProbeTick,
  type ProbeTls,
  TLS_STATES,
} from "./ProbeTick.ts";

export type * from "./ProbeTick.ts";

export const MAX_TICK_BYTES = 64 * 1024 * 1024;

/** Raised for bytes that are no frame of the probe. */
export class ProbeFrameError extends Error {
  readonly field: string;
  constructor(field: string, message: string) {
    super(`${field}: ${message}`);
    this.name = "ProbeFrameError";
    this.field = field;
  }
}

export type ProbeMessage =
  | { readonly kind: "hello"; readonly pid: number; readonly minor: number; readonly monoMs: number }
  | { readonly kind: "capability"; readonly capability: Capability }
  | { readonly kind: "tick"; readonly tick: ProbeTick }
  /** nothing can be observed on this machine; the probe ends and a restart would not help */
  | { readonly kind: "end" };

export interface ProbeDecoder {
  readonly push: (chunk: Uint8Array) => readonly ProbeMessage[];
  /** frames of kinds that this decoder does not know (a newer probe), skipped */
  readonly unknownFrames: () => number;
}

interface Frame {
  readonly kind: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

interface Parts {
  readonly frames: Map<number, Frame>;
  bytes: number;
}

const KIND_NAMES = new Map<number, keyof typeof FRAME>(
  Object.entries(FRAME).map(([name, kind]) => [kind, name as keyof typeof FRAME]),
);
const STATES = ["off", "on", "degraded"] as const;
const text = new TextDecoder();

const nameOf = (kind: number): string => KIND_NAMES.get(kind) ?? `frame ${kind}`;
const u64 = (view: DataView, at: number): number =>
  view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;

const cstring = (bytes: Uint8Array, at: number, size: number): string => {
  const end = bytes.indexOf(0, at);
  return text.decode(bytes.subarray(at, end < 0 || end > at + size ? at + size : end));
};

/** How many structs of `size` bytes a frame holds. */
const rowsOf = (frame: Frame, size: number): number => {
  if (frame.bytes.byteLength % size !== 0)
    throw new ProbeFrameError(`${nameOf(frame.kind)}.length`, `${frame.bytes.byteLength} is no multiple of ${size}`);
  return frame.bytes.byteLength / size;
};

const exactly = (frame: Frame, size: number): void => {
  if (frame.bytes.byteLength !== size)
    throw new ProbeFrameError(`${nameOf(frame.kind)}.length`, `expected ${size} bytes, got ${frame.bytes.byteLength}`);
};

const below = (field: string, value: number, limit: number): number => {
  if (value >= limit) throw new ProbeFrameError(field, `${value} is not below ${limit}`);
  return value;
};

const table = <S extends TableShape>(
  shape: S,
  frame: Frame | undefined,
  size: number,
  fill: (table: Table<S>, view: DataView, rows: number) => void,
): Table<S> => {
  if (frame === undefined) return emptyTable(shape, 0);
  const rows = rowsOf(frame, size);
  const made = emptyTable(shape, rows);
  fill(made, frame.view, rows);
  return made;
};

const decodeTcp = (frame: Frame | undefined): Table<typeof TCP_SHAPE> =>
  table(TCP_SHAPE, frame, LAYOUT.tcp.size, (t, view, rows) => {
    const l = LAYOUT.tcp;
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.edge[i] = view.getUint32(at + l.edge, true);
      t.opens[i] = view.getUint32(at + l.opens, true);
      t.failed[i] = view.getUint32(at + l.failed, true);
      t.closes[i] = view.getUint32(at + l.closes, true);
      t.active[i] = view.getUint32(at + l.active, true);
      t.bytesOut[i] = u64(view, at + l.bytes_out);
      t.bytesIn[i] = u64(view, at + l.bytes_in);
      t.retransmits[i] = view.getUint32(at + l.retransmits, true);
      t.connectUs[i] = u64(view, at + l.connect_ns) / 1000;
      t.rttUs[i] = u64(view, at + l.rtt_us);
      t.rttCount[i] = view.getUint32(at + l.rtt_count, true);
    }
  });

const decodeTroubles = (frame: Frame | undefined): Table<typeof TROUBLE_SHAPE> =>
  table(TROUBLE_SHAPE, frame, LAYOUT.trouble.size, (t, view, rows) => {
    const l = LAYOUT.trouble;
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.edge[i] = view.getUint32(at + l.edge, true);
      t.kind[i] = below("trouble.kind", view.getUint8(at + l.kind), TROUBLES.length);
      t.count[i] = view.getUint32(at + l.count, true);
    }
  });

const decodeL7 = (frame: Frame | undefined): Table<typeof PROBE_L7_SHAPE> =>
  table(PROBE_L7_SHAPE, frame, LAYOUT.l7.size, (t, view, rows) => {
    const l = LAYOUT.l7;
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.edge[i] = view.getUint32(at + l.edge, true);
      t.protocol[i] = below("l7.protocol", view.getUint8(at + l.protocol), PROTOCOLS.length);
      t.status[i] = below("l7.status", view.getUint8(at + l.status), STATUS.unknown + 1);
      t.count[i] = view.getUint32(at + l.count, true);
      t.sumUs[i] = u64(view, at + l.sum_ns) / 1000;
      t.detail[i] = view.getUint16(at + l.detail, true);
    }
  });

const decodeHist = (frame: Frame | undefined, among: number): Table<typeof HIST_SHAPE> =>
  table(HIST_SHAPE, frame, LAYOUT.hist.size, (t, view, rows) => {
    const l = LAYOUT.hist;
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.row[i] = below("hist.row", view.getUint32(at + l.row, true), among);
      t.bucket[i] = below("hist.bucket", view.getUint8(at + l.bucket), HISTOGRAM_BUCKETS);
      t.count[i] = view.getUint32(at + l.count, true);
    }
  });

const decodeIo = (frame: Frame | undefined): Table<typeof PROBE_IO_SHAPE> =>
  table(PROBE_IO_SHAPE, frame, LAYOUT.io.size, (t, view, rows) => {
    const l = LAYOUT.io;
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.owner[i] = u64(view, at + l.owner);
      t.device[i] = view.getUint32(at + l.device, true);
      t.what[i] = below("io.what", view.getUint8(at + l.what), TIMED.length);
      t.count[i] = view.getUint32(at + l.count, true);
      t.errors[i] = view.getUint32(at + l.errors, true);
      t.bytes[i] = u64(view, at + l.bytes);
      t.sumUs[i] = u64(view, at + l.sum_ns) / 1000;
    }
  });

const decodePending = (frame: Frame | undefined): Table<typeof PENDING_SHAPE> =>
  table(PENDING_SHAPE, frame, LAYOUT.pending.size, (t, view, rows) => {
    const l = LAYOUT.pending;
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.edge[i] = view.getUint32(at + l.edge, true);
      t.protocol[i] = below("pending.protocol", view.getUint8(at + l.protocol), PROTOCOLS.length);
      t.count[i] = view.getUint32(at + l.count, true);
      t.oldestMs[i] = u64(view, at + l.oldest_ns) / 1e6;
    }
  });

const decodePairs = (
  frame: Frame | undefined,
): { readonly pairs: Table<typeof PAIR_SHAPE>; readonly pairIps: Uint8Array } => {
  const l = LAYOUT.pair;
  const pairIps = new Uint8Array(frame === undefined ? 0 : rowsOf(frame, l.size) * 16);
  const pairs = table(PAIR_SHAPE, frame, l.size, (t, view, rows) => {
    for (let i = 0, at = 0; i < rows; i++, at += l.size) {
      t.edge[i] = view.getUint32(at + l.edge, true);
      t.port[i] = view.getUint16(at + l.port, true);
      for (let b = 0; b < 16; b++) pairIps[i * 16 + b] = view.getUint8(at + l.ip + b);
    }
  });
  return { pairs, pairIps };
};

const decodeNat = (frame: Frame | undefined): readonly ProbeNat[] => {
  if (frame === undefined) return [];
  const l = LAYOUT.nat;
  const nat: ProbeNat[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size)
    nat.push({
      edge: frame.view.getUint32(at + l.edge, true),
      address: addressText(frame.bytes, at + l.ip),
      port: frame.view.getUint16(at + l.port, true),
    });
  return nat;
};

const decodeListens = (frame: Frame | undefined): readonly ProbeListen[] | null => {
  if (frame === undefined) return null;
  const l = LAYOUT.listen;
  const listens: ProbeListen[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size)
    listens.push({
      netns: frame.view.getUint32(at + l.netns, true),
      port: frame.view.getUint16(at + l.port, true),
      queue: frame.view.getUint32(at + l.queue, true),
      limit: frame.view.getUint32(at + l.limit, true),
      drops: frame.view.getUint32(at + l.drops, true),
    });
  return listens;
};

const decodeMounts = (frame: Frame | undefined): readonly ProbeMount[] | null => {
  if (frame === undefined) return null;
  const l = LAYOUT.mount;
  const mounts: ProbeMount[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size) {
    const tgid = frame.view.getUint32(at + l.tgid, true);
    // the one row of an empty list
    if (tgid !== 0) mounts.push({ tgid, mount: frame.view.getUint32(at + l.mount, true) });
  }
  return mounts;
};

/** All zeros stand for an address that varies. */
const addressOrVaries = (bytes: Uint8Array, at: number): string => {
  const text = addressText(bytes, at);
  return text === "::" ? "" : text;
};

const decodeEdges = (frame: Frame | undefined): readonly ProbeEdge[] => {
  if (frame === undefined) return [];
  const l = LAYOUT.edge;
  const edges: ProbeEdge[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size)
    edges.push({
      id: frame.view.getUint32(at + l.id, true),
      role: below("edge.role", frame.view.getUint8(at + l.role), 2) === ROLE.client ? ROLE.client : ROLE.server,
      netns: frame.view.getUint32(at + l.netns, true),
      tgid: frame.view.getUint32(at + l.tgid, true),
      peer: addressOrVaries(frame.bytes, at + l.peer),
      port: frame.view.getUint16(at + l.port, true),
      local: addressOrVaries(frame.bytes, at + l.local),
    });
  return edges;
};

const decodeGone = (frame: Frame | undefined): readonly number[] => {
  if (frame === undefined) return [];
  const gone: number[] = [];
  for (let i = rowsOf(frame, 4), at = 0; i > 0; i--, at += 4) gone.push(frame.view.getUint32(at, true));
  return gone;
};

const decodeEvent = (frame: Frame, at: number): ProbeEvent => {
  const l = LAYOUT.event;
  const { view, bytes } = frame;
  const pid = view.getUint32(at + l.pid, true);
  const monoMs = u64(view, at + l.mono_ns) / 1e6;
  const kind = view.getUint32(at + l.kind, true);
  if (kind === 1)
    return {
      kind: "exec",
      pid,
      ppid: view.getUint32(at + l.ppid, true),
      comm: cstring(bytes, at + l.comm, 16),
      filename: cstring(bytes, at + l.filename, 128),
      monoMs,
      cgroupId: u64(view, at + l.cgroup),
      memoryCgroupId: u64(view, at + l.memory_cgroup),
    };
  if (kind === 2) {
    const code = view.getUint32(at + l.code, true);
    const signal = code & 0x7f;
    return signal === 0
      ? { kind: "exit", pid, code: (code >> 8) & 0xff, signal: null, monoMs }
      : { kind: "exit", pid, code: null, signal, monoMs };
  }
  if (kind === 3)
    return {
      kind: "oom",
      pid,
      rssBytes: u64(view, at + l.rss_bytes),
      anonBytes: u64(view, at + l.anon_bytes),
      shmemBytes: u64(view, at + l.shmem_bytes),
      monoMs,
    };
  throw new ProbeFrameError("event.kind", `${kind} is not known`);
};

const decodeEvents = (frame: Frame | undefined): readonly ProbeEvent[] => {
  if (frame === undefined) return [];
  const events: ProbeEvent[] = [];
  for (let i = rowsOf(frame, LAYOUT.event.size), at = 0; i > 0; i--, at += LAYOUT.event.size)
    events.push(decodeEvent(frame, at));
  return events;
};

const decodeTls = (frame: Frame | undefined): readonly ProbeTls[] | null => {
  if (frame === undefined) return null;
  const l = LAYOUT.tls;
  const list: ProbeTls[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size) {
    const tgid = frame.view.getUint32(at + l.tgid, true);
    // the one row of an empty list
    if (tgid === 0) continue;
    list.push({
      tgid,
      state: TLS_STATES[below("tls.state", frame.view.getUint32(at + l.state, true), TLS_STATES.length)] ?? "waiting",
      reason: cstring(frame.bytes, at + l.reason, 64),
      connections: u64(frame.view, at + l.connections),
    });
  }
  return list;
};

const decodeAnswers = (frame: Frame | undefined): readonly ProbeAnswer[] => {
  if (frame === undefined) return [];
  const l = LAYOUT.name;
  const { view, bytes } = frame;
  const answers: ProbeAnswer[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size) {
    const length = below("name.length", view.getUint16(at + l.length, true), l.size - l.data + 1);
    answers.push({
      edge: view.getUint32(at + l.edge, true),
      monoMs: u64(view, at + l.mono_ns) / 1e6,
      latencyUs: view.getUint32(at + l.latency_us, true),
      type: view.getUint16(at + l.type, true),
      status: below("name.status", view.getUint8(at + l.status), STATUS.unanswered + 1),
      rcode: below("name.rcode", view.getUint8(at + l.rcode), 16),
      message: bytes.subarray(at + l.data, at + l.data + length),
    });
  }
  return answers;
};

const decodeSpans = (frame: Frame | undefined): readonly ProbeSpan[] => {
  if (frame === undefined) return [];
  const l = LAYOUT.span;
  const { view, bytes } = frame;
  const spans: ProbeSpan[] = [];
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size) {
    const length = below("span.length", view.getUint16(at + l.length, true), l.reply - l.head + 1);
    const replyLength = below("span.reply_length", view.getUint16(at + l.reply_length, true), l.size - l.reply + 1);
    spans.push({
      edge: view.getUint32(at + l.edge, true),
      role: below("span.role", view.getUint8(at + l.role), 2) === ROLE.client ? ROLE.client : ROLE.server,
      protocol: below("span.proto", view.getUint8(at + l.proto), PROTOCOLS.length),
      status: below("span.status", view.getUint8(at + l.status), STATUS.unknown + 1),
      told: view.getUint8(at + l.classes),
      startNs: u64(view, at + l.t0),
      durationNs: u64(view, at + l.ns),
      socket: u64(view, at + l.socket),
      tgid: view.getUint32(at + l.tgid, true),
      thread: view.getUint32(at + l.thread, true),
      parentNs: u64(view, at + l.parent),
      seq: view.getUint32(at + l.seq, true),
      initial: [view.getUint32(at + l.initial, true), view.getUint32(at + l.initial + 4, true)],
      weight: view.getUint32(at + l.weight, true),
      inserted: view.getUint32(at + l.inserted, true),
      count: view.getUint32(at + l.count, true),
      head: bytes.slice(at + l.head, at + l.head + length),
      reply: bytes.slice(at + l.reply, at + l.reply + replyLength),
    });
  }
  return spans;
};

const decodeSelf = (frame: Frame | undefined): Record<string, number> => {
  const self: Record<string, number> = {};
  if (frame === undefined) return self;
  const l = LAYOUT.self;
  for (let i = rowsOf(frame, l.size), at = 0; i > 0; i--, at += l.size)
    self[cstring(frame.bytes, at + l.name, 24)] = u64(frame.view, at + l.value);
  return self;
};

const decodeCapability = (frame: Frame): Capability => {
  const l = LAYOUT.capability;
  exactly(frame, l.size);
  const state = below("capability.state", frame.view.getUint32(l.state, true), STATES.length);
  return {
    feature: cstring(frame.bytes, l.feature, 32),
    state: STATES[state] ?? "off",
    errno: frame.view.getInt32(l.error, true),
    reason: cstring(frame.bytes, l.reason, 152),
  };
};

const decodeHello = (frame: Frame): ProbeMessage => {
  const l = LAYOUT.hello;
  exactly(frame, l.size);
  if (frame.view.getUint32(l.magic, true) !== FRAME_MAGIC) throw new ProbeFrameError("hello.magic", "not a probe");
  const major = frame.view.getUint16(l.major, true);
  if (major !== FRAME_MAJOR) throw new ProbeFrameError("hello.major", `expected ${FRAME_MAJOR}, got ${major}`);
  const buckets = frame.view.getUint32(l.buckets, true);
  if (buckets !== HISTOGRAM_BUCKETS)
    throw new ProbeFrameError("hello.buckets", `expected ${HISTOGRAM_BUCKETS}, got ${buckets}`);
  return {
    kind: "hello",
    pid: frame.view.getUint32(l.pid, true),
    minor: frame.view.getUint16(l.minor, true),
    monoMs: u64(frame.view, l.mono_ns) / 1e6,
  };
};

const decodeTick = (end: Frame, parts: Parts, reset: boolean): ProbeTick => {
  exactly(end, LAYOUT.tick.size);
  const part = (kind: number): Frame | undefined => parts.frames.get(kind);
  const l7 = decodeL7(part(FRAME.l7));
  const io = decodeIo(part(FRAME.io));
  return {
    tick: u64(end.view, LAYOUT.tick.tick),
    monoMs: u64(end.view, LAYOUT.tick.mono_ns) / 1e6,
    reset,
    edges: decodeEdges(part(FRAME.edge)),
    gone: decodeGone(part(FRAME.gone)),
    tcp: decodeTcp(part(FRAME.tcp)),
    troubles: decodeTroubles(part(FRAME.trouble)),
    l7,
    hist: decodeHist(part(FRAME.hist), l7.rows),
    pending: decodePending(part(FRAME.pending)),
    ...decodePairs(part(FRAME.pair)),
    nat: decodeNat(part(FRAME.nat)),
    listens: decodeListens(part(FRAME.listen)),
    mounts: decodeMounts(part(FRAME.mount)),
    events: decodeEvents(part(FRAME.event)),
    tls: decodeTls(part(FRAME.tls)),
    answers: decodeAnswers(part(FRAME.name)),
    spans: decodeSpans(part(FRAME.span)),
    io,
    ioHist: decodeHist(part(FRAME.ioHist), io.rows),
    self: decodeSelf(part(FRAME.self)),
  };
};

export const makeProbeDecoder = (): ProbeDecoder => {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let wanted = HEADER_BYTES;
  let greeted = false;
  let reset = true;
  let unknown = 0;
  let parts: Parts = { frames: new Map(), bytes: 0 };

  const take = (frame: Frame, out: ProbeMessage[]): void => {
    if (!greeted && frame.kind !== FRAME.hello) throw new ProbeFrameError("hello", "expected as the first frame");
    switch (frame.kind) {
      case FRAME.hello:
        greeted = true;
        out.push(decodeHello(frame));
        return;
      case FRAME.capability:
        out.push({ kind: "capability", capability: decodeCapability(frame) });
        return;
      case FRAME.end:
        out.push({ kind: "end" });
        return;
      case FRAME.tick: {
        const tick = decodeTick(frame, parts, reset);
        parts = { frames: new Map(), bytes: 0 };
        reset = false;
        out.push({ kind: "tick", tick });
        return;
      }
      default: {
        if (!KIND_NAMES.has(frame.kind)) {
          unknown++;
          return;
        }
        const name = nameOf(frame.kind);
        if (parts.frames.has(frame.kind)) throw new ProbeFrameError(name, "twice in one tick");
        parts.bytes += frame.bytes.byteLength;
        if (parts.bytes > MAX_TICK_BYTES)
          throw new ProbeFrameError(name, `a tick of more than ${MAX_TICK_BYTES} bytes`);
        parts.frames.set(frame.kind, frame);
      }
    }
  };

  return {
    unknownFrames: () => unknown,
    push: (chunk) => {
      held.push(chunk);
      heldBytes += chunk.byteLength;
      // joined only once the frame at hand is whole, so that a long one in many chunks is copied once
      if (heldBytes < wanted) return [];
      const data = new Uint8Array(heldBytes);
      let filled = 0;
      for (const piece of held) {
        data.set(piece, filled);
        filled += piece.byteLength;
      }
      const view = new DataView(data.buffer);
      const out: ProbeMessage[] = [];
      let at = 0;
      wanted = HEADER_BYTES;
      while (data.byteLength - at >= HEADER_BYTES) {
        const length = view.getUint32(at, true);
        const kind = view.getUint16(at + 4, true);
        if (length > MAX_FRAME_BYTES)
          throw new ProbeFrameError("header.length", `${length} bytes, at most ${MAX_FRAME_BYTES} are taken`);
        if (view.getUint16(at + 6, true) !== 0) throw new ProbeFrameError("header.zero", "not zero: out of step");
        if (data.byteLength - at - HEADER_BYTES < length) {
          wanted = HEADER_BYTES + length;
          break;
        }
        const from = at + HEADER_BYTES;
        take({ kind, bytes: data.subarray(from, from + length), view: new DataView(data.buffer, from, length) }, out);
        at = from + length;
      }
      held = at === data.byteLength ? [] : [data.slice(at)];
      heldBytes = data.byteLength - at;
      return out;
    },
  };
};
