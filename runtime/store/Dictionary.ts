/**
 * Series of one connection, by the ids that its agent gave them, and its store frames as batches for the writer. Owned by
 * whoever holds the connection: ids mean something only within it, so a new connection starts with a new dictionary.
 * Bounded; a sample whose id has no definition, or one beyond the bound, is lost and counted. In typed arrays and one list
 * of texts that all connections share: a thousand agents have a million series. Pure state, nothing to stop.
 */
import type { SAMPLES_SHAPE, SeriesDefinition } from "../../schemas/wire/link.ts";
import type { Table } from "../../schemas/wire/columns.ts";
import type { Words } from "../Generations.ts";
import type { Series, SeriesSet, StoreBatch } from "./batch.ts";
import { fingerprint } from "./fingerprint.ts";

export interface BatchHeader {
  readonly agent: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly connection: number;
}

/** Ids are below this; agents count them from 1. */
export const MAX_SERIES = 200_000;
const FIRST_ROOM = 64;

export class Dictionary implements SeriesSet {
  readonly lasting = true;
  readonly #words: Words;
  #low = new Uint32Array(FIRST_ROOM);
  #high = new Uint32Array(FIRST_ROOM);
  /** where the series' name lies in `texts`, behind which come its labels' values; 0: there is no such series */
  #start = new Uint32Array(FIRST_ROOM);
  /** names of the labels, by series: the same list for all that have the same */
  readonly #names: (readonly string[])[] = [];
  readonly #lists = new Map<string, readonly string[]>();
  readonly #texts: string[] = [""];
  #unknown = 0;

  constructor(words: Words) {
    this.#words = words;
  }

  /** One more than the highest id. */
  get size(): number {
    return this.#names.length;
  }
  /** samples without a series, since the connection's start */
  get unknown(): number {
    return this.#unknown;
  }

  readonly low = (id: number): number => this.#low[id] ?? 0;
  readonly high = (id: number): number => this.#high[id] ?? 0;
  readonly at = (id: number): Series | undefined => {
    const start = this.#start[id] ?? 0;
    const names = this.#names[id];
    if (start === 0 || names === undefined) return undefined;
    const labels = Object.fromEntries(names.map((label, i) => [label, this.#texts[start + 1 + i] ?? ""]));
    return { fingerprint: { low: this.low(id), high: this.high(id) }, name: this.#texts[start] ?? "", labels };
  };

  /** What an id means holds for the whole connection: batches that wait rest on it. */
  define(definitions: readonly SeriesDefinition[]): void {
    for (const { id, name, labels } of definitions) {
      if (id >= MAX_SERIES || (this.#start[id] ?? 0) > 0) continue;
      if (id >= this.#start.length) this.#grow(id);
      while (this.#names.length <= id) this.#names.push(NO_NAMES);
      const { low, high } = fingerprint(name, labels);
      this.#low[id] = low;
      this.#high[id] = high;
      this.#names[id] = this.#namesOf(labels);
      this.#start[id] = this.#texts.push(this.#words.of(name)) - 1;
      for (const label in labels) this.#texts.push(this.#words.of(labels[label] ?? ""));
    }
  }

  batch(header: BatchHeader, samples: Table<typeof SAMPLES_SHAPE>): StoreBatch {
    let known = 0;
    for (const id of samples.series) if ((this.#start[id] ?? 0) > 0) known++;
    if (known === samples.rows)
      return { ...header, series: this, index: samples.series, times: samples.timeMs, values: samples.value };
    this.#unknown += samples.rows - known;
    const index = new Uint32Array(known);
    const times = new Float64Array(known);
    const values = new Float64Array(known);
    let rows = 0;
    for (let i = 0; i < samples.rows; i++) {
      const id = samples.series[i] ?? 0;
      if ((this.#start[id] ?? 0) === 0) continue;
      index[rows] = id;
      times[rows] = samples.timeMs[i] ?? 0;
      values[rows] = samples.value[i] ?? 0;
      rows++;
    }
    return { ...header, series: this, index, times, values };
  }

  #namesOf(labels: Readonly<Record<string, string>>): readonly string[] {
    const names = Object.keys(labels);
    const key = names.join("\u0000");
    let known = this.#lists.get(key);
    if (known === undefined) this.#lists.set(key, (known = names));
    return known;
  }

  #grow(id: number): void {
    const room = Math.min(MAX_SERIES, Math.max(2 * this.#start.length, id + 1));
    const grown = (from: Uint32Array): Uint32Array<ArrayBuffer> => {
      const to = new Uint32Array(room);
      to.set(from);
      return to;
    };
    this.#low = grown(this.#low);
    this.#high = grown(this.#high);
    this.#start = grown(this.#start);
  }
}

const NO_NAMES: readonly string[] = [];
