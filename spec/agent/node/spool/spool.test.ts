import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { withDefinitions } from "../../../../agent/node/link/Link.ts";
import { SampleSet } from "../../../../agent/node/metrics/Samples.ts";
import { Spool, type SpoolEntry } from "../../../../agent/node/spool/Spool.ts";
import { checkStore, decodeFrame } from "../../../../schemas/wire/codec.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "coroot-spool-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const open = (more: { maxBytes?: number; segmentRecords?: number } = {}) =>
  new Spool({ folder, maxBytes: more.maxBytes ?? 1e6, segmentBytes: 1e6, segmentRecords: more.segmentRecords ?? 3 });
const put = (spool: Spool, sequence: number, epoch = 1, bytes = `record ${sequence}`) =>
  spool.append(epoch, sequence, () => Buffer.from(bytes));
const all = (spool: Spool): string[] => {
  const got: string[] = [];
  for (let entry = spool.next(); entry !== null; entry = spool.next())
    got.push(`${entry.epoch}/${entry.sequence} ${Buffer.from(entry.bytes).toString()}`);
  return got;
};
const files = () => readdirSync(folder).toSorted();

describe("spool", () => {
  it("hands out in order, removes whole segments when acknowledged, and gives room under way back", () => {
    const spool = open();
    for (let i = 0; i < 7; i++) put(spool, i);
    expect(files()).toHaveLength(3);
    expect(all(spool)).toHaveLength(7);
    expect(spool.underWay).toBe(7);
    spool.ack(1, 4);
    expect([spool.underWay, spool.stats.waiting, files().length]).toEqual([2, 2, 2]);
    spool.ack(1, 6);
    expect([spool.underWay, spool.stats.waiting]).toEqual([0, 0]);
    spool.close();
    expect(files()).toEqual([]);
    expect(spool.stats.bytes).toBe(0);
  });

  it("hands out again what was not acknowledged after a new connection", () => {
    const spool = open();
    for (let i = 0; i < 5; i++) put(spool, i);
    all(spool);
    spool.ack(1, 1);
    spool.rewind();
    expect(all(spool)).toEqual(["1/2 record 2", "1/3 record 3", "1/4 record 4"]);
    spool.close();
  });

  it("survives a crash between write and ack, and a tail torn in the middle of a record", () => {
    const first = open();
    for (let i = 0; i < 4; i++) put(first, i);
    // No close: the process is gone. The last segment has half a record behind it.
    const last = join(folder, files().at(-1) ?? "");
    appendFileSync(last, readFileSync(last).subarray(0, 20));
    const second = open();
    expect(second.stats.tornBytes).toBe(20);
    put(second, 0, 2);
    expect(all(second)).toEqual(["1/0 record 0", "1/1 record 1", "1/2 record 2", "1/3 record 3", "2/0 record 0"]);
    second.ack(1, 3);
    second.ack(2, 0);
    second.close();
    expect(files()).toEqual([]);
  });

  it("stops at a damaged record and keeps the ones before it", () => {
    const first = open();
    for (let i = 0; i < 3; i++) put(first, i);
    first.close();
    const path = join(folder, files()[0] ?? "");
    const bytes = readFileSync(path);
    bytes[bytes.length - 3] = 0xff;
    writeFileSync(path, bytes);
    const second = open();
    expect(all(second)).toEqual(["1/0 record 0", "1/1 record 1"]);
    expect(second.stats.tornBytes).toBeGreaterThan(0);
    second.close();
  });

  it("drops the oldest segment above the limit and counts its records", () => {
    const spool = open({ maxBytes: 400, segmentRecords: 2 });
    for (let i = 0; i < 20; i++) put(spool, i, 1, "x".repeat(40));
    expect(spool.stats.bytes).toBeLessThanOrEqual(400);
    expect(files().reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)).toBe(spool.stats.bytes);
    const left = all(spool);
    expect(left.at(-1)).toContain("1/19 ");
    expect(spool.stats.dropped + left.length).toBe(20);
    spool.close();
  });

  it("counts a disk that refuses, and goes on when it takes data again", () => {
    const spool = open();
    put(spool, 0);
    spool.append(1, 1, () => {
      throw new Error("no space left on device");
    });
    expect(spool.stats).toMatchObject({ dropped: 1, writeErrors: 1, lastError: "no space left on device" });
    put(spool, 2);
    expect(all(spool)).toEqual(["1/0 record 0", "1/2 record 2"]);
    spool.close();
  });
});

const sampleRound = (set: SampleSet, names: readonly string[]) => {
  set.begin();
  for (const name of names) set.put(name, { machine_id: "m" }, 1);
};
const read = (entry: SpoolEntry | null, known: Map<number, string>): string[] => {
  if (entry === null) return [];
  const body = checkStore(decodeFrame(withDefinitions(entry)).body);
  for (const one of body.series) known.set(one.id, one.name);
  return Array.from(body.samples.series, (id) => known.get(id) ?? "?");
};

describe("a segment alone", () => {
  it("can be replayed into a server that knows nothing, also from its middle", () => {
    const spool = open({ segmentRecords: 2 });
    const set = new SampleSet();
    const append = (sequence: number) =>
      spool.append(7, sequence, (first) => set.encode({ epoch: 7, sequence, monoMs: 0, dropped: 0 }, 1000, first));
    for (let i = 0; i < 4; i++) {
      sampleRound(set, i % 2 === 0 ? ["a"] : ["a", "b"]);
      append(i);
    }
    const known = new Map<number, string>();
    expect([0, 1, 2, 3].map(() => read(spool.next(), known))).toEqual([["a"], ["a", "b"], ["a"], ["a", "b"]]);
    // The first record of each segment is acknowledged; a new server has heard of nothing.
    spool.ack(7, 2);
    spool.rewind();
    expect(read(spool.next(), new Map())).toEqual(["a", "b"]);
    spool.close();
    const later = open();
    const fresh = new Map<number, string>();
    expect(read(later.next(), fresh)).toEqual(["a"]);
    expect(read(later.next(), fresh)).toEqual(["a", "b"]);
    later.close();
  });
});
