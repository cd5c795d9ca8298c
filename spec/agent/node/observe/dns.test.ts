/** DNS messages from the network, and what the agent makes of look-ups. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readDnsMessage } from "../../../../agent/node/observe/dnsMessage.ts";
import { DNS_PROTOCOL, Lookups, parseSearchList } from "../../../../agent/node/observe/Lookups.ts";
import {
  PROBE_IO_SHAPE,
  PROBE_L7_SHAPE,
  type ProbeAnswer,
  type ProbeTick,
} from "../../../../agent/node/probe/ProbeTick.ts";
import { emptyTable } from "../../../../schemas/wire/columns.ts";
import {
  HIST_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  STATUS,
  TCP_SHAPE,
  TROUBLE_SHAPE,
} from "../../../../schemas/wire/observe.ts";

const A = 1;
const AAAA = 28;
const CNAME = 5;
const u16 = (n: number): number[] => [n >> 8, n & 255];
const name = (text: string): number[] => [
  ...text.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]),
  0,
];
interface Answer {
  readonly owner: readonly number[];
  readonly type: number;
  readonly ttl: number;
  readonly data: readonly number[];
}
const message = (asked: string, type: number, records: readonly Answer[] = []): Uint8Array =>
  Uint8Array.from([
    ...[0, 1, 0x81, 0x80, 0, 1, 0, records.length].concat([0, 0, 0, 0], name(asked), u16(type), [0, 1]),
    ...records.flatMap((r) =>
      [...r.owner].concat(u16(r.type), [0, 1, 0, 0], u16(r.ttl), u16(r.data.length), [...r.data]),
    ),
  ]);
const POINTER = [0xc0, 12];

describe("a DNS message", () => {
  it("gives addresses through its CNAMEs, with the least time to live, and none of other names", () => {
    const read = readDnsMessage(
      message("WWW.Example.org", A, [
        { owner: POINTER, type: CNAME, ttl: 30, data: name("edge.cdn.net") },
        { owner: name("edge.cdn.net"), type: A, ttl: 300, data: [192, 0, 2, 1] },
        { owner: POINTER, type: AAAA, ttl: 60, data: [0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 7] },
        { owner: name("other.net"), type: A, ttl: 300, data: [192, 0, 2, 9] },
      ]),
    );
    expect(read).toEqual({
      name: "www.example.org",
      type: A,
      addresses: [
        { address: "192.0.2.1", ttl: 30 },
        { address: "2001:db8::7", ttl: 60 },
      ],
    });
  });

  it("gives what comes before its cut, at whatever byte that is", () => {
    const whole = message("a.test", A, [
      { owner: POINTER, type: A, ttl: 1, data: [192, 0, 2, 1] },
      { owner: POINTER, type: A, ttl: 1, data: [192, 0, 2, 2] },
    ]);
    for (let n = 0; n <= whole.byteLength; n++) {
      const read = readDnsMessage(whole.subarray(0, n));
      if (n < 24) expect(read, String(n)).toBeNull();
      else
        expect(read?.addresses.length, String(n)).toBe(n === whole.byteLength ? 2 : n >= whole.byteLength - 16 ? 1 : 0);
    }
  });

  it("ends whatever the bytes are, names that point to themselves too", () => {
    expect(readDnsMessage(Uint8Array.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]))).toBeNull();
    const head = [0, 0, 0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0];
    const noise = fc.array(fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 12, 0xc0, 5, 28)), {
      maxLength: 488,
    });
    fc.assert(
      fc.property(noise, fc.boolean(), (bytes, headed) => {
        const read = readDnsMessage(Uint8Array.from(headed ? [...head, ...bytes] : bytes));
        if (read === null) return;
        expect(read.name.length).toBeLessThanOrEqual(255);
        expect(read.addresses.length).toBeLessThanOrEqual(64);
      }),
      { numRuns: 3_000 },
    );
  });
});

const answer = (asked: string, rcode: number, type = A, change: Partial<ProbeAnswer> = {}): ProbeAnswer => ({
  edge: 1,
  monoMs: 0,
  latencyUs: 500,
  type,
  status: rcode === 0 ? STATUS.ok : rcode === 3 ? STATUS.rejected : STATUS.failed,
  rcode,
  message: message(asked, type, rcode === 0 ? [{ owner: POINTER, type: A, ttl: 5, data: [192, 0, 2, 1] }] : []),
  ...change,
});

const tick = (
  answers: readonly ProbeAnswer[],
  more: readonly [status: number, detail: number, count: number][] = [],
) => {
  const counts = new Map(more.map(([status, detail, count]) => [`${status} ${detail}`, { status, detail, count }]));
  for (const { status, rcode, type } of answers) {
    const key = `${status} ${rcode * 256 + type}`;
    const row = counts.get(key) ?? { status, detail: rcode * 256 + type, count: 0 };
    counts.set(key, { ...row, count: row.count + 1 });
  }
  const l7 = emptyTable(PROBE_L7_SHAPE, counts.size);
  for (const [i, row] of [...counts.values()].entries()) {
    l7.edge[i] = 1;
    l7.protocol[i] = DNS_PROTOCOL;
    l7.status[i] = row.status;
    l7.detail[i] = row.detail;
    l7.count[i] = row.count;
  }
  const made: ProbeTick = {
    tick: 1,
    monoMs: 0,
    reset: false,
    edges: [],
    gone: [],
    tcp: emptyTable(TCP_SHAPE, 0),
    troubles: emptyTable(TROUBLE_SHAPE, 0),
    l7,
    hist: emptyTable(HIST_SHAPE, 0),
    pending: emptyTable(PENDING_SHAPE, 0),
    pairs: emptyTable(PAIR_SHAPE, 0),
    pairIps: new Uint8Array(),
    events: [],
    answers,
    spans: [],
    io: emptyTable(PROBE_IO_SHAPE, 0),
    ioHist: emptyTable(HIST_SHAPE, 0),
    tls: null,
    nat: [],
    listens: null,
    mounts: null,
    self: {},
  };
  return made;
};

const lookups = (
  resolv: string | null = "search ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5",
) => {
  const made = new Lookups({
    clientOf: (edge) => (edge < 10 ? { instance: 7, tgid: edge } : null),
    resolvConf: () => resolv,
  });
  const absent = (nowMs: number) =>
    made.flush(nowMs, () => true).absent.map(({ name, type, count, known }) => [name, type, count, known]);
  const metrics = () => {
    const out: Record<string, number> = {};
    made.put(
      (_, labels, value) => {
        const key = `${labels["domain"]} ${labels["request_type"]} ${labels["status"]}`;
        out[key] = (out[key] ?? 0) + value;
      },
      {},
      7,
    );
    return out;
  };
  return { made, absent, metrics };
};

describe("look-ups", () => {
  it("tell tries of a search list from names that do not exist", () => {
    const { made, absent } = lookups();
    const tries = (base: string) =>
      ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"].map((suffix) => answer(`${base}.${suffix}`, 3));
    made.absorb(tick([...tries("api.example.com"), answer("api.example.com", 0)]), 0);
    // one try of a search list is answered
    made.absorb(tick([answer("db.other.ns.svc.cluster.local", 3), answer("db.other.svc.cluster.local", 0)]), 1_000);
    made.absorb(tick([...tries("typo.example.com"), answer("typo.example.com", 3)]), 2_000);
    made.absorb(tick(tries("never-asked-plainly")), 2_000);
    expect(absent(3_000)).toEqual([["typo.example.com", "TypeA", 1, false]]);
    expect(absent(13_000)).toEqual([["never-asked-plainly", "TypeA", 1, false]]);
    expect(absent(60_000)).toEqual([]);
  });

  it("know which name existed before, and whose answer it was", () => {
    const { made, absent } = lookups();
    made.absorb(tick([answer("db.test", 0), answer("x.ns.svc.cluster.local", 3), answer("x", 0, A, { edge: 2 })]), 0);
    made.absorb(tick([answer("db.test", 3), answer("db.test", 3)]), 1_000);
    expect(absent(20_000)).toEqual([
      ["db.test", "TypeA", 2, true],
      ["x", "TypeA", 1, true],
    ]);
  });

  it("add up to the kernel's counts, with what was not told as other domains", () => {
    const { made, metrics } = lookups();
    made.absorb(tick([answer("a.test", 0), answer("b.test", 2, AAAA)], [[STATUS.unanswered, A, 4]]), 0);
    made.absorb(tick([answer("a.test", 0)], [[STATUS.ok, A, 10]]), 1_000);
    made.absorb(tick([]), 2_000);
    const expected = {
      "a.test TypeA ok": 2,
      "b.test TypeAAAA servfail": 1,
      "~other TypeA unanswered": 4,
      "~other TypeA ok": 10,
    };
    expect(metrics()).toEqual(expected);
    made.absorb(tick(Array.from({ length: 60 }, (_, i) => answer(`n${i}.test`, 0))), 3_000);
    made.absorb(tick([]), 4_000);
    const after = metrics();
    expect(Object.keys(after).length).toBe(4 + 48);
    expect(Object.entries(after).reduce((sum, [key, n]) => sum + (key.endsWith("TypeA ok") ? n : 0), 0)).toBe(12 + 60);
  });

  it("give an address the name that was asked for, and keep it while that lives", () => {
    const { made } = lookups();
    const names = (nowMs: number) => made.flush(nowMs, () => true).names;
    made.absorb(tick([answer("one.test", 0)]), 0);
    made.absorb(tick([answer("two.test", 0)]), 1_000);
    expect(names(1_000)).toEqual([{ address: "192.0.2.1", name: "one.test" }]);
    made.absorb(tick([answer("one.test", 0)]), 50_000);
    made.absorb(tick([answer("two.test", 0)]), 70_000);
    expect(names(70_000)).toEqual([]);
    made.absorb(tick([answer("two.test", 0)]), 120_000);
    expect(names(120_000)).toEqual([{ address: "192.0.2.1", name: "two.test" }]);
  });

  it("read the last search list, the longest domain first", () => {
    expect(parseSearchList("domain a.b\nnameserver 10.0.0.1\nsearch Lan corp.Example. x\n")).toEqual([
      "corp.example",
      "lan",
      "x",
    ]);
  });
});
