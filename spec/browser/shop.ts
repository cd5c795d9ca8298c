/**
 * A generated shop for the browser specs of rendering: services, calls and what they suffer, as entries of the page's
 * topics. Deterministic: the same scenario and second give the same figures. It stands in for a server only where a spec
 * looks at how given data is drawn; what the real server says is proved by the end-to-end spec.
 */
import type { HealthStatus } from "../../schemas/service.ts";
import type { Evidence, Inspection } from "../../schemas/incident.ts";
import type {
  EdgeView,
  InstanceView,
  LiveWindows,
  MapEdge,
  ServiceCard,
  SloView,
  Traffic,
} from "../../schemas/wire/page.ts";
import { chance, client, large, SHOP, SHOP_CALLS, type Call, type Made, type Scenario } from "./shop-graph.ts";

const burnRule = (
  objective: "availability" | "latency",
  long: string,
  short: string,
  threshold: number,
  severity: "critical" | "warning",
  burn: number,
): SloView["burn"][number] => ({
  objective,
  long,
  short,
  threshold,
  longBurn: burn * 0.7,
  shortBurn: burn,
  severity,
  firing: burn * 0.7 >= threshold,
});

export class Shop {
  readonly scenario: Scenario;
  readonly services: readonly Made[];
  readonly calls: readonly Call[];
  readonly startedAt: number;
  readonly incidentAt: number;
  /** additions by a spec while it runs */
  readonly late: Made[] = [];
  constructor(scenario: Scenario, now: number) {
    this.scenario = scenario;
    this.startedAt = now - 5_400_000;
    this.incidentAt = now - 47_000;
    const { services, calls } = scenario === "large" ? large() : { services: SHOP, calls: SHOP_CALLS };
    const silent = scenario === "empty" || scenario === "blind";
    this.services = silent ? [] : services;
    this.calls = silent ? [] : calls;
  }

  get troubled(): boolean {
    return this.scenario === "incident" || this.scenario === "large";
  }

  /** what each service suffers: share of errors, factor of latency */
  pain(service: Made): {
    readonly errors: number;
    readonly slow: number;
    readonly status: HealthStatus;
    readonly reason: string;
  } {
    const none = {
      errors: chance(`e${service.name}`) < 0.3 ? 0.0004 : 0,
      slow: 1,
      status: "ok" as HealthStatus,
      reason: "",
    };
    if (!this.troubled)
      return service.kind === "External" || service === client ? { ...none, status: "unknown" } : none;
    const names =
      this.scenario === "large" ? ["orders-db", "orders", "web", "ledger"] : ["postgres", "catalog", "front", "nginx"];
    const at = names.indexOf(service.name);
    if (at === 0) return { errors: 0.002, slow: 60, status: "critical", reason: "CPU throttled 71 % of the time" };
    if (at === 1)
      return { errors: 0.18, slow: 22, status: "critical", reason: "18 % of requests fail, p95 is 22 times normal" };
    if (at === 2) return { errors: 0.11, slow: 8, status: "critical", reason: "11 % of requests fail" };
    if (at === 3) return { errors: 0.06, slow: 7, status: "warning", reason: "burns its budget at 14 times the rate" };
    if (service.kind === "External" || service === client) return { ...none, status: "unknown" };
    return none;
  }

  traffic(
    key: string,
    rate: number,
    ms: number,
    second: number,
    pain: { readonly errors: number; readonly slow: number },
  ): Traffic {
    if (rate === 0)
      return {
        requestsPerSecond: 0,
        errorRatio: 0,
        unknownRatio: 0,
        p50Ms: null,
        p95Ms: null,
        p99Ms: null,
        pending: 0,
        oldestPendingMs: 0,
      };
    const wave = 1 + 0.1 * Math.sin(second / 17 + chance(key) * 6) + 0.08 * (chance(`${key}${second}`) - 0.5);
    const noise = 0.92 + 0.16 * chance(`${key}l${second}`);
    const base = ms * noise * pain.slow;
    return {
      requestsPerSecond: Math.round(rate * wave * 10) / 10,
      errorRatio: pain.errors === 0 ? 0 : pain.errors * (0.85 + 0.3 * chance(`${key}e${second}`)),
      unknownRatio: 0,
      p50Ms: base * 0.55,
      p95Ms: base * 2.1,
      p99Ms: base * 4.2,
      pending: Math.round((rate * base) / 1000),
      oldestPendingMs: base * 4,
    };
  }

  card(service: Made, second: number, now: number): ServiceCard {
    const pain = this.pain(service);
    const busy = service.rate > 0;
    return {
      id: service.id,
      name: service.name,
      kind: service.kind,
      namespace: service.namespace,
      category: "application",
      type: service.type,
      status: pain.status,
      reason: pain.reason,
      inbound: this.traffic(service.id, service.rate, service.ms, second, pain),
      instances:
        service.kind === "External"
          ? 0
          : 1 + Math.floor(chance(`i${service.name}`) * (this.scenario === "large" && busy ? 5 : 2)),
      cpuCores:
        service.kind === "External"
          ? null
          : this.troubled && /postgres|orders-db/.test(service.name)
            ? 0.25
            : (busy ? 0.1 + service.rate / 1500 : 0.004) * (0.9 + 0.2 * chance(`${service.id}c${second}`)),
      memoryBytes: service.kind === "External" ? null : (20 + chance(`m${service.name}`) * 480) * 1024 * 1024,
      hasSlo: busy && service.kind !== "External",
      lastSeen: now - 900,
      incident: pain.status === "critical" || pain.status === "warning" ? "inc-7f3a" : null,
    };
  }

  edge(call: Call, second: number): MapEdge {
    const pain = this.pain(call.to);
    const rate = call.from.rate === 0 ? call.to.rate : call.to.rate * call.share;
    const traffic = this.traffic(`${call.from.id}>${call.to.id}`, rate, call.to.ms, second, pain);
    const failed =
      this.troubled && (call.to.name === "postgres" || call.to.name === "orders-db") && chance(call.from.name) < 0.6
        ? 3.4
        : 0;
    return {
      from: call.from.id,
      to: call.to.id,
      protocols: [call.protocol],
      traffic,
      failedConnectsPerSecond: failed,
      failedConnectsReason: failed > 0 ? "refused" : "",
      bytesPerSecond: rate * 2300,
      status: failed > 0 ? "critical" : pain.errors > 0.05 ? "warning" : pain.status === "unknown" ? "unknown" : "ok",
    };
  }

  edgeView(call: Call, other: Made, second: number, now: number): EdgeView {
    const edge = this.edge(call, second);
    const { traffic } = edge;
    const scaled = (factor: number): Traffic => ({
      ...traffic,
      p50Ms: traffic.p50Ms === null ? null : traffic.p50Ms * factor,
      p95Ms: traffic.p95Ms === null ? null : traffic.p95Ms * factor,
      p99Ms: traffic.p99Ms === null ? null : traffic.p99Ms * factor,
    });
    return {
      peer: other.id,
      peerName: other.name,
      protocols: edge.protocols,
      client: call.from.kind === "External" ? null : traffic,
      server: call.to.kind === "External" ? null : scaled(0.86),
      connectsPerSecond: 0.4,
      failedConnectsPerSecond: edge.failedConnectsPerSecond,
      failedConnectsReason: edge.failedConnectsReason,
      brokenConnectionsPerSecond: 0,
      activeConnections: 4 + Math.floor(chance(call.to.name) * 40),
      retransmitsPerSecond: chance(`t${second}${call.from.name}`) < 0.1 ? 0.2 : 0,
      rttMs: 0.08 + chance(`rtt${call.from.name}`) * 0.4,
      bytesOutPerSecond: traffic.requestsPerSecond * 420,
      bytesInPerSecond: traffic.requestsPerSecond * 1900,
      status: edge.status,
      lastSeen: now - 600,
    };
  }

  live(service: Made, from: number, to: number): LiveWindows {
    const seconds = Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n);
    const hurt = (second: number): boolean => second * 1000 >= this.incidentAt;
    const at = seconds.map((second) => {
      const pain = hurt(second) ? this.pain(service) : { errors: 0.0004, slow: 1 };
      return this.traffic(service.id, service.rate, service.ms, second, pain);
    });
    const memory = (20 + chance(`m${service.name}`) * 480) * 1024 * 1024;
    const starved = this.troubled && /postgres|orders-db/.test(service.name);
    return {
      time: seconds.map((second) => second * 1000),
      requests: at.map((traffic) => traffic.requestsPerSecond),
      errors: at.map((traffic) => traffic.requestsPerSecond * traffic.errorRatio),
      p50Ms: at.map((traffic) => traffic.p50Ms),
      p95Ms: at.map((traffic) => traffic.p95Ms),
      p99Ms: at.map((traffic) => traffic.p99Ms),
      cpuCores: seconds.map(
        (second) =>
          (starved && hurt(second) ? 0.25 : 0.1 + service.rate / 1500) *
          (0.9 + 0.2 * chance(`${service.id}c${second}`)),
      ),
      throttledRatio: seconds.map((second) => (starved && hurt(second) ? 0.71 + 0.05 * chance(`th${second}`) : 0)),
      memoryBytes: seconds.map((second) => memory * (1 + 0.03 * Math.sin(second / 90))),
      pending: at.map((traffic) => traffic.pending),
    };
  }

  instances(service: Made, second: number, now: number): Readonly<Record<string, InstanceView>> {
    const card = this.card(service, second, now);
    const starved = this.troubled && /postgres|orders-db/.test(service.name);
    return Object.fromEntries(
      Array.from({ length: card.instances }, (_, n) => {
        const instance = `${service.name}-${Math.floor(chance(`${service.name}${n}`) * 0xffffff)
          .toString(16)
          .padStart(6, "0")}`;
        return [
          `instance:${instance}`,
          {
            instance,
            node: this.scenario === "large" ? `node-${1 + (n % 4)}` : "node-1",
            up: true,
            startedAt: this.startedAt + n * 60_000,
            processes: 1 + Math.floor(chance(`p${service.name}`) * 8),
            cpuCores: starved ? 0.25 : (card.cpuCores ?? 0) / card.instances,
            cpuLimit: starved ? 0.25 : n % 2 === 0 ? 1 : 0,
            throttledRatio: starved ? 0.71 : 0,
            memoryBytes: card.memoryBytes ?? 0,
            memoryLimit: 512 * 1024 * 1024,
            restarts: n === 1 ? 2 : 0,
            oomKills: 0,
          } satisfies InstanceView,
        ];
      }),
    );
  }

  slo(service: Made): SloView {
    const pain = this.pain(service);
    const bad = pain.status === "critical";
    return {
      availabilityObjective: 0.999,
      latencyObjective: 0.99,
      latencyThresholdMs: 500,
      budgetLeft: bad ? 0.18 : 0.94,
      good: 41_238_112,
      bad: bad ? 33_914 : 2_461,
      burn: [
        burnRule("availability", "1 h", "5 min", 14.4, "critical", bad ? 41 : 0.2),
        burnRule("availability", "6 h", "30 min", 6, "critical", bad ? 7.1 : 0.3),
        burnRule("latency", "1 h", "5 min", 14.4, "critical", bad ? 9.2 : 0.1),
        burnRule("latency", "3 d", "6 h", 1, "warning", bad ? 0.9 : 0.1),
      ],
      state: bad ? "incident" : "ok",
      since: bad ? this.incidentAt : null,
    };
  }

  inspections(service: Made, now: number): Readonly<Record<string, Inspection>> {
    const pain = this.pain(service);
    const starved = this.troubled && /postgres|orders-db/.test(service.name);
    const evidence = (
      text: string,
      series: string,
      normal: number,
      value: number,
      unit: Evidence["unit"],
    ): Evidence => ({
      id: `${service.name}-${series}`,
      service: service.id,
      series,
      normal,
      value,
      unit,
      z: value > normal * 3 ? 18.4 : 0.6,
      from: this.incidentAt,
      to: now,
      text,
    });
    const check = (
      id: Inspection["id"],
      category: Inspection["category"],
      title: string,
      value: number,
      threshold: number,
      unit: Evidence["unit"],
      status: HealthStatus,
      message: string,
    ): readonly [string, Inspection] => [
      `inspection:${id}`,
      {
        id,
        category,
        title,
        status,
        message,
        threshold,
        value,
        unit,
        since: status === "ok" ? null : this.incidentAt,
        evidence: status === "ok" ? [] : [evidence(title, id, value / 20, value, unit)],
      },
    ];
    const bad = pain.errors > 0.05;
    return Object.fromEntries([
      check(
        "availability",
        "SLO",
        "Availability",
        pain.errors,
        0.01,
        "ratio",
        bad ? "critical" : "ok",
        bad ? "requests fail" : "requests succeed",
      ),
      check(
        "latency",
        "SLO",
        "Latency",
        service.ms * 2.1 * pain.slow,
        500,
        "ms",
        pain.slow > 10 ? "warning" : "ok",
        pain.slow > 10 ? "p95 above the objective" : "p95 within the objective",
      ),
      check(
        "failed_connects",
        "Network",
        "Failed connects",
        starved ? 6.8 : 0,
        0.1,
        "per_second",
        starved ? "critical" : "ok",
        starved ? "clients are refused" : "every connect succeeds",
      ),
      check("restarts", "Instances", "Restarts", 0, 0, "count", "ok", "none in 10 min"),
      check(
        "cpu_near_limit",
        "CPU",
        "CPU near limit",
        starved ? 0.99 : 0.3,
        0.8,
        "ratio",
        starved ? "warning" : "ok",
        starved ? "uses all of its limit" : "enough head room",
      ),
      check(
        "cpu_throttling",
        "CPU",
        "CPU throttling",
        starved ? 0.71 : 0,
        0.1,
        "ratio",
        starved ? "critical" : "ok",
        starved ? "throttled in 71 % of periods" : "not throttled",
      ),
      check("memory_near_limit", "Memory", "Memory near limit", 0.42, 0.9, "ratio", "ok", "enough head room"),
      check("oom", "Memory", "Out-of-memory kills", 0, 0, "count", "ok", "none in 10 min"),
    ]);
  }
}
