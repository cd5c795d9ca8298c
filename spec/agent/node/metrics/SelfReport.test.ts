import { describe, expect, it } from "vitest";
import { SampleSet } from "../../../../agent/node/metrics/Samples.ts";
import { type Look, SelfReport } from "../../../../agent/node/metrics/SelfReport.ts";

const look = (second: number, change: Partial<Look> = {}): Look => ({
  monoMs: second * 1000,
  cpuMs: second * 20,
  memoryBytes: 1e8,
  loopLateMs: 2,
  windowsWaiting: 0,
  spool: { bytes: 0, maxBytes: 1000, records: 0 },
  tcpBytes: second * 1000,
  probe: {},
  losses: {},
  ...change,
});
const probe = (figures: Readonly<Record<string, number>>): Readonly<Record<string, number>> => ({
  cpuUs: 0,
  rssBytes: 5e6,
  kernelBytes: 4e6,
  edges: 4096,
  edgesMax: 8192,
  ...figures,
});

describe("what the agent tells of itself", () => {
  it("has rates of the last minute, and nothing of a probe that does not run", () => {
    const report = new SelfReport();
    for (let s = 0; s < 200; s += 5) report.tell(look(s, { loopLateMs: s === 150 ? 900 : 2 }));
    const told = report.tell(look(200));
    expect(told["cpuCores"]).toBeCloseTo(0.02);
    expect(told).toMatchObject({ loopLateMs: 900, memoryBytes: 1e8, "used.spool": 0 });
    expect(told).not.toHaveProperty("probeCpuCores");
    expect(Object.keys(told).filter((name) => name.startsWith("lost."))).toEqual([]);
    expect(report.tell(look(215))["loopLateMs"]).toBe(2);
  });

  it("tells losses while they are fresh, also over a new life of the probe", () => {
    const report = new SelfReport();
    report.tell(look(0, { probe: probe({ eventsLost: 7, unknownBytes: 500 }) }));
    report.tell(look(5, { probe: probe({ eventsLost: 10, unknownBytes: 900 }), losses: { seconds: 2 } }));
    const told = report.tell(look(10, { probe: probe({ eventsLost: 1, unknownBytes: 100 }), losses: { seconds: 2 } }));
    expect(told).toMatchObject({ "lost.events": 4, "lost.seconds": 2, "used.edges": 0.5, bytesPerSecond: 1000 });
    expect(told["unknownBytesPerSecond"]).toBeCloseTo(50);
    const later = report.tell(look(80, { probe: probe({ eventsLost: 1, unknownBytes: 100 }), losses: { seconds: 2 } }));
    expect(Object.keys(later).filter((name) => name.startsWith("lost."))).toEqual([]);
  });

  it("takes the time of programs for the time that was measured", () => {
    const report = new SelfReport();
    report.tell(look(0, { probe: probe({}) }));
    const told = report.tell(
      look(30, { probe: probe({ measuredUs: 1e6, "runNs.sock_send": 8e6, "runNs.tcp_state": 2e6 }) }),
    );
    expect(told["programsCores"]).toBeCloseTo(0.01);
  });
});

describe("the text of a round of samples", () => {
  it("has the lines of one name together, labels escaped, and nothing of rounds before", () => {
    const set = new SampleSet();
    set.begin();
    set.put("gone", {}, 1);
    set.begin();
    set.put("b_total", { name: 'a"b\\c\nd' }, 2.5);
    set.put("a", {}, 1);
    set.put("b_total", { name: "x" }, 3);
    expect(set.text()).toBe('a 1\nb_total{name="a\\"b\\\\c\\nd"} 2.5\nb_total{name="x"} 3\n');
  });
});
