import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  makeProbeDecoder,
  ProbeFrameError,
  type ProbeMessage,
  type ProbeTick,
} from "../../../../agent/node/probe/frames.ts";
import { FRAME, LAYOUT, MAX_FRAME_BYTES } from "../../../../agent/node/probe/layout.ts";
import { frame, hello, join, rows, tickEnd } from "./encode.ts";

const mapped = (...v4: readonly number[]): Uint8Array => Uint8Array.from([...Array(10).fill(0), 255, 255, ...v4]);

const whole = (tick: number): Uint8Array =>
  join(
    rows(
      FRAME.edge,
      "edge",
      { id: 7, netns: 4026531840, tgid: 100, port: 5432, role: 0, peer: mapped(10, 0, 0, 9) },
      {
        id: 8,
        netns: 4026531840,
        tgid: 200,
        port: 80,
        role: 1,
        peer: mapped(127, 0, 0, 1),
        local: mapped(127, 0, 0, 2),
      },
    ),
    rows(FRAME.tcp, "tcp", {
      edge: 7,
      opens: 1,
      failed: 2,
      closes: 3,
      active: 4,
      retransmits: 5,
      rtt_count: 6,
      bytes_out: 2 ** 40 + 1,
      bytes_in: 12,
      connect_ns: 1_500_000,
      rtt_us: 900,
    }),
    rows(
      FRAME.l7,
      "l7",
      { edge: 7, count: 30, protocol: 2, status: 0, sum_ns: 6_000_000 },
      { edge: 8, count: 1, protocol: 1, status: 2, sum_ns: 1_000 },
    ),
    rows(
      FRAME.hist,
      "hist",
      { row: 0, count: 29, bucket: 30 },
      { row: 0, count: 1, bucket: 107 },
      { row: 1, count: 1, bucket: 0 },
    ),
    rows(FRAME.pending, "pending", { edge: 7, count: 2, protocol: 2, oldest_ns: 2_500_000_000 }),
    rows(FRAME.pair, "pair", { edge: 7, port: 50123, ip: mapped(127, 0, 0, 1) }),
    rows(
      FRAME.event,
      "event",
      { kind: 1, pid: 9, ppid: 1, comm: "bash", filename: "/bin/bash", mono_ns: 3e9, cgroup: 63, memory_cgroup: 17690 },
      { kind: 2, pid: 9, code: 3 << 8, mono_ns: 4e9 },
      { kind: 2, pid: 10, code: 9, mono_ns: 4e9 },
      { kind: 3, pid: 11, rss_bytes: 2 ** 33, mono_ns: 5e9 },
    ),
    frame(FRAME.gone, Uint8Array.from([3, 0, 0, 0])),
    rows(FRAME.self, "self", { name: "edges", value: 2 }, { name: "fifoOverflows", value: 2 ** 33 }),
    tickEnd(tick),
  );

const ticksOf = (messages: readonly ProbeMessage[]): readonly ProbeTick[] =>
  messages.flatMap((message) => (message.kind === "tick" ? [message.tick] : []));

const only = (messages: readonly ProbeMessage[]): ProbeTick => {
  const [tick] = ticksOf(messages);
  if (tick === undefined) throw new Error("no tick");
  return tick;
};

describe("frames of the probe", () => {
  it("decodes every part of a tick into its tables", () => {
    const messages = makeProbeDecoder().push(join(hello(), whole(12)));
    expect(messages[0]).toEqual({ kind: "hello", pid: 4242, minor: 0, monoMs: 5 });
    const tick = only(messages);
    expect(tick).toMatchObject({ tick: 12, monoMs: 12_000, reset: true, gone: [3] });
    expect(tick.edges).toEqual([
      { id: 7, role: 0, netns: 4026531840, tgid: 100, peer: "10.0.0.9", port: 5432, local: "" },
      { id: 8, role: 1, netns: 4026531840, tgid: 200, peer: "127.0.0.1", port: 80, local: "127.0.0.2" },
    ]);
    expect([tick.tcp.rows, tick.tcp.edge[0], tick.tcp.opens[0], tick.tcp.failed[0]]).toEqual([1, 7, 1, 2]);
    expect([tick.tcp.closes[0], tick.tcp.active[0], tick.tcp.retransmits[0]]).toEqual([3, 4, 5]);
    expect([tick.tcp.bytesOut[0], tick.tcp.bytesIn[0], tick.tcp.connectUs[0]]).toEqual([2 ** 40 + 1, 12, 1500]);
    expect([tick.tcp.rttUs[0], tick.tcp.rttCount[0]]).toEqual([900, 6]);
    expect([...tick.l7.count]).toEqual([30, 1]);
    expect([...tick.l7.protocol]).toEqual([2, 1]);
    expect([...tick.l7.status]).toEqual([0, 2]);
    expect([...tick.l7.sumUs]).toEqual([6000, 1]);
    expect([...tick.hist.row]).toEqual([0, 0, 1]);
    expect([...tick.hist.bucket]).toEqual([30, 107, 0]);
    expect([...tick.hist.count]).toEqual([29, 1, 1]);
    expect([tick.pending.edge[0], tick.pending.count[0], tick.pending.oldestMs[0]]).toEqual([7, 2, 2500]);
    expect([tick.pairs.edge[0], tick.pairs.port[0]]).toEqual([7, 50123]);
    expect(tick.pairIps).toEqual(mapped(127, 0, 0, 1));
    expect(tick.events).toEqual([
      {
        kind: "exec",
        pid: 9,
        ppid: 1,
        comm: "bash",
        filename: "/bin/bash",
        monoMs: 3000,
        cgroupId: 63,
        memoryCgroupId: 17690,
      },
      { kind: "exit", pid: 9, code: 3, signal: null, monoMs: 4000 },
      { kind: "exit", pid: 10, code: null, signal: 9, monoMs: 4000 },
      { kind: "oom", pid: 11, rssBytes: 2 ** 33, anonBytes: 0, shmemBytes: 0, monoMs: 5000 },
    ]);
    expect(tick.self).toEqual({ edges: 2, fifoOverflows: 2 ** 33 });
  });

  it("reads the same from chunks of any size", () => {
    const bytes = join(hello(), whole(1), whole(2), tickEnd(3));
    const expected = ticksOf(makeProbeDecoder().push(bytes));
    expect(expected.map((tick) => tick.reset)).toEqual([true, false, false]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 }), (sizes) => {
        const decoder = makeProbeDecoder();
        const messages: ProbeMessage[] = [];
        for (let at = 0, i = 0; at < bytes.byteLength; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          messages.push(...decoder.push(bytes.slice(at, at + size)));
          at += size;
        }
        expect(ticksOf(messages)).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });

  it("does not depend on the chunk's memory after the call", () => {
    const decoder = makeProbeDecoder();
    const bytes = join(hello(), whole(1));
    const first = bytes.slice(0, bytes.byteLength - 20);
    expect(ticksOf(decoder.push(first))).toEqual([]);
    const tick = only(decoder.push(bytes.slice(bytes.byteLength - 20)));
    bytes.fill(0);
    expect(tick.l7.count[0]).toBe(30);
  });

  it("reports a capability with its reason, and the end", () => {
    const messages = makeProbeDecoder().push(
      join(
        hello(),
        rows(FRAME.capability, "capability", { feature: "requests.send", state: 0, error: 1, reason: "not permitted" }),
        rows(FRAME.end, "tick", { mono_ns: 1 }),
      ),
    );
    expect(messages.slice(1)).toEqual([
      {
        kind: "capability",
        capability: { feature: "requests.send", state: "off", errno: 1, reason: "not permitted" },
      },
      { kind: "end" },
    ]);
  });

  it("skips kinds of a newer probe and counts them", () => {
    const decoder = makeProbeDecoder();
    expect(ticksOf(decoder.push(join(hello(), frame(77, new Uint8Array(5)), tickEnd(1))))).toHaveLength(1);
    expect(decoder.unknownFrames()).toBe(1);
  });

  it.each<readonly [field: string, bytes: Uint8Array]>([
    ["hello", tickEnd(1)],
    ["hello.magic", hello({ magic: 1 })],
    ["hello.major", hello({ major: 9 })],
    ["hello.buckets", hello({ buckets: 64 })],
    ["header.zero", Uint8Array.from([0, 0, 0, 0, 1, 0, 9, 9])],
    ["tcp.length", join(hello(), frame(FRAME.tcp, new Uint8Array(LAYOUT.tcp.size + 1)), tickEnd(1))],
    ["l7.protocol", join(hello(), rows(FRAME.l7, "l7", { protocol: 200 }), tickEnd(1))],
    ["l7.status", join(hello(), rows(FRAME.l7, "l7", { status: 5 }), tickEnd(1))],
    ["hist.row", join(hello(), rows(FRAME.hist, "hist", { row: 0 }), tickEnd(1))],
    ["hist.bucket", join(hello(), rows(FRAME.l7, "l7", {}), rows(FRAME.hist, "hist", { bucket: 108 }), tickEnd(1))],
    ["edge.role", join(hello(), rows(FRAME.edge, "edge", { role: 2 }), tickEnd(1))],
    ["event.kind", join(hello(), rows(FRAME.event, "event", { kind: 9 }), tickEnd(1))],
    ["tick.length", join(hello(), frame(FRAME.tick, new Uint8Array(3)))],
    ["tcp", join(hello(), rows(FRAME.tcp, "tcp", {}), rows(FRAME.tcp, "tcp", {}))],
    ["capability.state", join(hello(), rows(FRAME.capability, "capability", { state: 3 }))],
  ])("names %s in what it refuses", (field, bytes) => {
    let error: unknown;
    try {
      makeProbeDecoder().push(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ProbeFrameError);
    expect(error instanceof ProbeFrameError && error.field).toBe(field);
  });

  it("refuses a length beyond the bound before it holds any of it", () => {
    const header = new Uint8Array(8);
    new DataView(header.buffer).setUint32(0, MAX_FRAME_BYTES + 1, true);
    expect(() => makeProbeDecoder().push(header)).toThrow(/header\.length/);
  });

  it("answers garbage with its own error and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.boolean(), (garbage, greeted) => {
        const decoder = makeProbeDecoder();
        if (greeted) decoder.push(hello());
        try {
          decoder.push(garbage);
        } catch (error) {
          expect(error).toBeInstanceOf(ProbeFrameError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("takes the list of processes that speak TLS as a whole, and tells no change from an empty list", () => {
    const decoder = makeProbeDecoder();
    const list = (...some: Parameters<typeof rows>[2][]) => rows(FRAME.tls, "tls", ...some);
    const tlsOf = (...parts: readonly Uint8Array[]) =>
      decoder.push(join(...parts)).flatMap((one) => (one.kind === "tick" ? [one.tick.tls] : []));
    expect(tlsOf(hello(), tickEnd(1))).toEqual([null]);
    expect(
      tlsOf(
        list({ tgid: 7, state: 1, connections: 3, reason: "libssl.so.3" }, { tgid: 8, state: 2, reason: "GnuTLS" }),
        tickEnd(2),
      ),
    ).toEqual([
      [
        { tgid: 7, state: "read", connections: 3, reason: "libssl.so.3" },
        { tgid: 8, state: "unreadable", connections: 0, reason: "GnuTLS" },
      ],
    ]);
    expect(tlsOf(list({}), tickEnd(3))).toEqual([[]]);
    expect(() => tlsOf(list({ tgid: 7, state: 5 }), tickEnd(4))).toThrow(/tls.state/);
  });
});
