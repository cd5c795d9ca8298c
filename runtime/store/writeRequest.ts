/**
 * Writes samples as Prometheus' remote_write 1.0 (`prometheus.WriteRequest`), labels in the order that it asks for, values
 * bit for bit. Owned by the remote lane. Labels of a series are encoded once and kept with it. Pure; nothing to stop.
 * Source: https://prometheus.io/docs/specs/prw/remote_write_spec/
 */
import type { Series, SeriesSet, StoreBatch } from "./batch.ts";

/** Rows of one batch. */
export interface Rows {
  readonly batch: StoreBatch;
  /** places in the batch's columns, in its order */
  readonly rows: Uint32Array;
}

const varintLength = (value: number): number => {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++;
  return length;
};

const putVarint = (into: Uint8Array, at: number, value: number): number => {
  let place = at;
  let rest = value;
  while (rest >= 128) {
    into[place++] = rest % 128 | 128;
    rest = Math.floor(rest / 128);
  }
  into[place++] = rest;
  return place;
};

const bytesField = (field: number, content: Uint8Array): Buffer => {
  const out = Buffer.alloc(1 + varintLength(content.length) + content.length);
  out[0] = (field << 3) | 2;
  out.set(content, putVarint(out, 1, content.length));
  return out;
};

const blobsOfSets = new WeakMap<SeriesSet, (Buffer | undefined)[]>();
const blobsOfSeries = new WeakMap<Series, Buffer>();

/** All Label messages of the series, with their tags and lengths; null: there is none at that place. */
const labelsOf = (set: SeriesSet, place: number): Buffer | null => {
  if (set.lasting) {
    let blobs = blobsOfSets.get(set);
    if (blobs === undefined) blobsOfSets.set(set, (blobs = []));
    const known = blobs[place];
    if (known !== undefined) return known;
    const series = set.at(place);
    return series === undefined ? null : (blobs[place] = encodeLabels(series));
  }
  const series = set.at(place);
  if (series === undefined) return null;
  const known = blobsOfSeries.get(series);
  if (known !== undefined) return known;
  const blob = encodeLabels(series);
  blobsOfSeries.set(series, blob);
  return blob;
};

const encodeLabels = (series: Series): Buffer => {
  const labels = Object.entries(series.labels).filter(([name, value]) => value !== "" && name !== "__name__");
  labels.push(["__name__", series.name]);
  return Buffer.concat(
    labels
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) =>
        bytesField(1, Buffer.concat([bytesField(1, Buffer.from(name)), bytesField(2, Buffer.from(value))])),
      ),
  );
};

/** value: tag and 8 bytes; time: tag and varint; both in a field of their own */
const sampleLength = (time: number): number => 10 + varintLength(time);

export const encodeRequest = (parts: readonly Rows[]): Buffer => {
  let length = 0;
  for (const { batch, rows } of parts)
    for (const row of rows) {
      const labels = labelsOf(batch.series, batch.index[row] ?? 0);
      if (labels === null) continue;
      const content = labels.length + 2 + sampleLength(Math.floor(batch.times[row] ?? 0));
      length += 1 + varintLength(content) + content;
    }
  const out = Buffer.allocUnsafe(length);
  let at = 0;
  for (const { batch, rows } of parts) {
    const words = new Uint32Array(batch.values.buffer, batch.values.byteOffset, 2 * batch.values.length);
    for (const row of rows) {
      const labels = labelsOf(batch.series, batch.index[row] ?? 0);
      if (labels === null) continue;
      const time = Math.floor(batch.times[row] ?? 0);
      const sample = sampleLength(time);
      out[at++] = 0x0a;
      at = putVarint(out, at, labels.length + 2 + sample);
      out.set(labels, at);
      at += labels.length;
      out[at++] = 0x12;
      out[at++] = sample;
      out[at++] = 0x09;
      out.writeUInt32LE(words[2 * row] ?? 0, at);
      out.writeUInt32LE(words[2 * row + 1] ?? 0, at + 4);
      at += 8;
      out[at++] = 0x10;
      at = putVarint(out, at, time);
    }
  }
  return out;
};
