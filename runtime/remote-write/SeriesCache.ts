/**
 * Series by the bytes or texts that senders name them with: reading labels and hashing them anew for each sample would cost
 * more than all the rest. Owned by the door's intake, for the server's life. Bounded by two generations: what was asked for
 * lately stays, the rest is forgotten and only read again. Pure state, nothing to stop.
 */
import { isUtf8 } from "node:buffer";
import { BYTES, Malformed, type Cursor } from "../doors/Protobuf.ts";
import type { Series } from "../store/batch.ts";
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
const MAX_BYTES = 32 * 1024 * 1024;
const MAX_WORDS = 200_000;
/** Series with the same hash that are kept; more are only read again. */
const MAX_ALIKE = 8;

/** The newer generation is asked first; when it is full it becomes the older one, whose rest is forgotten. */
class Generations<K, V> {
  private young = new Map<K, V>();
  private old = new Map<K, V>();
  private weight = 0;
  private readonly most: number;
  private readonly mostWeight: number;
  constructor(most: number, mostWeight = Number.POSITIVE_INFINITY) {
    this.most = most;
    this.mostWeight = mostWeight;
  }

  get size(): number {
    return this.young.size + this.old.size;
  }

  get(key: K): V | undefined {
    const found = this.young.get(key);
    if (found !== undefined) return found;
    return this.old.get(key);
  }

  isYoung(key: K): boolean {
    return this.young.has(key);
  }

  set(key: K, value: V, weight = 0): void {
    if (this.young.size >= this.most || this.weight + weight > this.mostWeight) {
      this.old = this.young;
      this.young = new Map();
      this.weight = 0;
    }
    this.young.set(key, value);
    this.weight += weight;
  }
}

interface Known {
  readonly blob: Buffer;
  readonly series: Series;
  /** another with the same hash */
  readonly next: Known | undefined;
  /** how many follow */
  readonly alike: number;
}

const hashOf = (bytes: Buffer, start: number, end: number): number => {
  let hash = 0x811c9dc5 ^ (end - start);
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (bytes[i] ?? 0), 0x01000193);
  return hash;
};

const sameBytes = (blob: Buffer, bytes: Buffer, start: number): boolean => {
  for (let i = 0; i < blob.length; i++) if (blob[i] !== bytes[start + i]) return false;
  return true;
};

export class SeriesCache {
  private readonly byBlob = new Generations<number, Known>(MAX_SERIES, MAX_BYTES);
  private readonly byKey = new Generations<string, Series>(MAX_SERIES);
  private readonly words = new Generations<string, string>(MAX_WORDS);

  get size(): number {
    return this.byBlob.size + this.byKey.size;
  }

  /** The series of the Label messages that lie one after the other from `start` to `end`. */
  labels(cursor: Cursor, start: number, end: number): Series | InvalidSeries {
    const { bytes } = cursor;
    const hash = hashOf(bytes, start, end);
    const first = this.byBlob.get(hash);
    for (let known = first; known !== undefined; known = known.next) {
      if (known.blob.length !== end - start || !sameBytes(known.blob, bytes, start)) continue;
      if (!this.byBlob.isYoung(hash)) this.byBlob.set(hash, known, known.blob.length);
      return known.series;
    }
    const made = this.of(readLabels(cursor, start, end));
    if (typeof made === "string") return made;
    const blob = Buffer.from(bytes.subarray(start, end));
    const next = first !== undefined && first.alike < MAX_ALIKE ? first : undefined;
    this.byBlob.set(hash, { blob, series: made, next, alike: next === undefined ? 0 : next.alike + 1 }, blob.length);
    return made;
  }

  /** The series of names and values in turn. */
  pairs(pairs: readonly string[] | InvalidSeries): Series | InvalidSeries {
    if (typeof pairs === "string") return pairs;
    const key = pairs.join("\u0000");
    const known = this.byKey.get(key);
    if (known !== undefined) {
      if (!this.byKey.isYoung(key)) this.byKey.set(key, known);
      return known;
    }
    const made = this.of(pairs);
    if (typeof made !== "string") this.byKey.set(key, made);
    return made;
  }

  private of(pairs: readonly string[] | InvalidSeries): Series | InvalidSeries {
    if (typeof pairs === "string") return pairs;
    if (pairs.length > 2 * LABEL_LIMITS.labels) return "too many labels";
    const labels: Record<string, string> = Object.create(null) as Record<string, string>;
    const seen = new Set<string>();
    let metric = "";
    for (let i = 0; i < pairs.length; i += 2) {
      const name = this.word(pairs[i] ?? "");
      const value = this.word(pairs[i + 1] ?? "");
      if (name === "") return "a label without a name";
      if (seen.has(name)) return "a label that is there twice";
      seen.add(name);
      if (name.length > LABEL_LIMITS.nameBytes || value.length > LABEL_LIMITS.valueBytes)
        return "a label that is too long";
      if (name === "__name__") metric = value;
      // an empty value means the same as no label
      else if (value !== "") labels[name] = value;
    }
    if (metric === "") return "labels without a metric name";
    const print = fingerprint(metric, labels);
    return { fingerprint: print, name: metric, labels, key: fingerprintText(print) };
  }

  /** The same text as before where it is known: names and values come back in thousands of series. */
  private word(text: string): string {
    const known = this.words.get(text);
    if (known !== undefined) return known;
    this.words.set(text, text);
    return text;
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
