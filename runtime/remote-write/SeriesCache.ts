/**
 * Series by the bytes or texts that senders name them with: reading labels and hashing them anew for each sample would cost
 * more than all the rest. Owned by the door's intake, for the server's life. Bounded by two generations: what was asked for
 * lately stays, the rest is forgotten and only read again. Pure state, nothing to stop.
 */
import { isUtf8 } from "node:buffer";
import { BYTES, Malformed, type Cursor } from "../doors/Protobuf.ts";
import type { Series } from "../store/batch.ts";
import { Generations, Words } from "../Generations.ts";
import { fingerprint, fingerprintText } from "../store/fingerprint.ts";

/** Why a series is not taken; the same few texts for all, since they are counted by it. */
export type InvalidSeries =
  | "labels without a metric name"
  | "a label without a name"
  | "a label that is there twice"
  | "labels that are not UTF-8"
  | "too many labels"
  | "a label that is too long";

export const LABEL_LIMITS = {
  labels: 128,
  nameBytes: 1024,
  valueBytes: 8 * 1024,
} as const;

/** Of each generation. */
const MAX_SERIES = 100_000;
/** Series with the same hash that are kept; more are only read again. */
const MAX_ALIKE = 8;

interface Known {
  readonly blob: DataView;
  readonly series: Series;
  /** another with the same hash */
  readonly next: Known | undefined;
  /** how many follow */
  readonly alike: number;
}

/** Four bytes at a time: this runs once for each sample. */
const hashOf = (view: DataView, start: number, end: number): number => {
  let hash = 0x811c9dc5 ^ (end - start);
  let at = start;
  for (; at + 4 <= end; at += 4) {
    hash = Math.imul(hash ^ view.getInt32(at, true), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  for (; at < end; at++) hash = Math.imul(hash ^ view.getUint8(at), 0x01000193);
  return hash ^ (hash >>> 13);
};

const sameBytes = (blob: DataView, view: DataView, start: number): boolean => {
  const length = blob.byteLength;
  let i = 0;
  for (; i + 4 <= length; i += 4) if (blob.getInt32(i, true) !== view.getInt32(start + i, true)) return false;
  for (; i < length; i++) if (blob.getUint8(i) !== view.getUint8(start + i)) return false;
  return true;
};

const weightOf = (labels: Readonly<Record<string, string>>): number => {
  let weight = 0;
  for (const name in labels) weight += name.length + (labels[name] ?? "").length;
  return weight;
};

/** Says who is told of a series' samples as they come in; null: nobody. Asked once, when the cache takes the series. */
export type WatcherOf = (name: string, labels: Readonly<Record<string, string>>) => string | null;

export class SeriesCache {
  private readonly watcherOf: WatcherOf;
  private readonly byBlob = new Generations<number, Known>(MAX_SERIES, ({ blob }) => blob.byteLength);
  private readonly byKey = new Generations<string, Series>(MAX_SERIES, ({ labels }) => weightOf(labels));
  private readonly words = new Words();

  constructor(watcherOf: WatcherOf = () => null) {
    this.watcherOf = watcherOf;
  }

  get size(): number {
    return this.byBlob.size + this.byKey.size;
  }

  /** The series of the Label messages that lie one after the other from `start` to `end`. */
  labels(cursor: Cursor, start: number, end: number): Series | InvalidSeries {
    const { view } = cursor;
    const hash = hashOf(view, start, end);
    const first = this.byBlob.get(hash);
    for (let known = first; known !== undefined; known = known.next)
      if (known.blob.byteLength === end - start && sameBytes(known.blob, view, start)) return known.series;
    const made = this.of(readLabels(cursor, start, end));
    if (typeof made === "string") return made;
    const copy = Buffer.from(cursor.bytes.subarray(start, end));
    const blob = new DataView(copy.buffer, copy.byteOffset, copy.length);
    const next = first !== undefined && first.alike < MAX_ALIKE ? first : undefined;
    this.byBlob.set(hash, { blob, series: made, next, alike: next === undefined ? 0 : next.alike + 1 });
    return made;
  }

  /** The series of names and values in turn. */
  pairs(pairs: readonly string[] | InvalidSeries): Series | InvalidSeries {
    if (typeof pairs === "string") return pairs;
    const key = pairs.join("\u0000");
    const known = this.byKey.get(key);
    if (known !== undefined) return known;
    const made = this.of(pairs);
    if (typeof made !== "string") this.byKey.set(key, made);
    return made;
  }

  private of(pairs: readonly string[] | InvalidSeries): Series | InvalidSeries {
    if (typeof pairs === "string") return pairs;
    if (pairs.length > 2 * LABEL_LIMITS.labels) return "too many labels";
    const kept: (readonly [string, string])[] = [];
    const seen = new Set<string>();
    let metric = "";
    for (let i = 0; i < pairs.length; i += 2) {
      const name = this.words.of(pairs[i] ?? "");
      const value = this.words.of(pairs[i + 1] ?? "");
      if (name === "") return "a label without a name";
      if (seen.has(name)) return "a label that is there twice";
      seen.add(name);
      if (name.length > LABEL_LIMITS.nameBytes || value.length > LABEL_LIMITS.valueBytes)
        return "a label that is too long";
      if (name === "__name__") metric = value;
      // an empty value means the same as no label
      else if (value !== "") kept.push([name, value]);
    }
    if (metric === "") return "labels without a metric name";
    // takes a third of what an object without a prototype does; a label may be called __proto__ here
    const labels: Readonly<Record<string, string>> = Object.fromEntries(kept);
    const print = fingerprint(metric, labels);
    const series = { fingerprint: print, name: metric, labels, key: fingerprintText(print) };
    const watcher = this.watcherOf(metric, labels);
    return watcher === null ? series : { ...series, watcher };
  }
}

/** Text of these bytes, null when they are not UTF-8. */
export const utf8Text = (bytes: Buffer, start: number, end: number): string | null => {
  const text = bytes.toString("utf8", start, end);
  return text.includes("\ufffd") && !isUtf8(bytes.subarray(start, end)) ? null : text;
};

/** Names and values in turn, of messages `Label { string name = 1; string value = 2; }` with their tags and lengths. */
const readLabels = (cursor: Cursor, start: number, end: number): string[] | InvalidSeries => {
  const { bytes } = cursor;
  const pairs: string[] = [];
  const after = cursor.at;
  cursor.at = start;
  let invalid: InvalidSeries | null = null;
  while (cursor.at < end) {
    cursor.field(end);
    const to = cursor.span(end);
    let name: string | null = "";
    let value: string | null = "";
    while (cursor.at < to) {
      const field = cursor.field(to);
      if (field > 2) {
        cursor.skip(to);
        continue;
      }
      if (cursor.type !== BYTES) throw new Malformed(`wire type ${cursor.type} in a label`, cursor.at - 1);
      const textEnd = cursor.span(to);
      const most = field === 1 ? LABEL_LIMITS.nameBytes : LABEL_LIMITS.valueBytes;
      if (textEnd - cursor.at > most) invalid ??= "a label that is too long";
      else if (pairs.length <= 2 * LABEL_LIMITS.labels) {
        const text = utf8Text(bytes, cursor.at, textEnd);
        if (field === 1) name = text;
        else value = text;
      }
      cursor.at = textEnd;
    }
    if (name === null || value === null) invalid ??= "labels that are not UTF-8";
    else if (pairs.length <= 2 * LABEL_LIMITS.labels) pairs.push(name, value);
  }
  cursor.at = after;
  return invalid ?? pairs;
};
