/**
 * A generated shop for the browser specs of rendering: services, calls, an incident, agents and actors, as entries of
 * the page's topics. Deterministic: the same scenario and second give the same figures. It stands in for a server only
 * where a spec looks at how given data is drawn; what the real server says is proved by the end-to-end spec.
 */
import { serviceId, type HealthStatus, type ServiceId } from "../../schemas/service.ts";
import type { Evidence, Incident, Inspection } from "../../schemas/incident.ts";
import type {
  ActorView,
  AgentView,
  EdgeView,
  IncidentCard,
  InstanceView,
  LiveWindows,
  MapEdge,
  Overview,
  ServiceCard,
  SloView,
  Traffic,
} from "../../schemas/wire/page.ts";

export type Scenario = "shop" | "incident" | "large" | "empty" | "blind";

export interface Made {
  readonly id: ServiceId;
  readonly name: string;
  readonly kind: string;
  readonly namespace: string;
  readonly type: string;
  /** requests per second and typical latency */
  readonly rate: number;
  readonly ms: number;
}

export interface Call {
  readonly from: Made;
  readonly to: Made;
  readonly share: number;
  readonly protocol: string;
}

/** 0..1, from a text: the only source of chance */
export const chance = (text: string): number => {
  let hash = 2166136261;
  for (let n = 0; n < text.length; n++) hash = Math.imul(hash ^ text.charCodeAt(n), 16777619);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0x5bd1e995);
  return ((hash ^ (hash >>> 15)) >>> 0) / 4294967296;
};

const make = (name: string, kind: string, namespace: string, type: string, rate: number, ms: number): Made => ({
  id: serviceId("demo", namespace, kind, name),
  name,
  kind,
  namespace,
  type,
  rate,
  ms,
});

const nginx = make("nginx", "Container", "shop", "nginx", 480, 24);
const front = make("front", "Container", "shop", "node", 480, 19);
const catalog = make("catalog", "Container", "shop", "python", 620, 8);
const cart = make("cart", "Container", "shop", "java", 210, 6);
const checkout = make("checkout", "Container", "shop", "go", 24, 42);
const postgres = make("postgres", "Container", "data", "postgres", 1450, 1.4);
const redis = make("redis", "Container", "data", "redis", 2100, 0.3);
const rabbit = make("rabbitmq", "Container", "data", "rabbitmq", 24, 2.1);
const mailer = make("mailer", "Container", "shop", "python", 22, 31);
const client = make("load", "HostProcess", "node-1", "process", 0, 0);
const payments = make("api.payments.example", "External", "", "external", 24, 120);

const SHOP: readonly Made[] = [
  nginx,
  front,
  catalog,
  cart,
  checkout,
  postgres,
  redis,
  rabbit,
  mailer,
  client,
  payments,
  ...[
    "sshd",
    "cron",
    "systemd-journald",
    "containerd",
    "dbus-daemon",
    "chronyd",
    "node-agent",
    "unattended-upgrades",
  ].map((name) => make(name, "HostProcess", "node-1", "process", 0, 0)),
];

const SHOP_CALLS: readonly Call[] = [
  { from: client, to: nginx, share: 1, protocol: "http" },
  { from: nginx, to: front, share: 1, protocol: "http" },
  { from: front, to: catalog, share: 1, protocol: "http" },
  { from: front, to: cart, share: 1, protocol: "http" },
  { from: front, to: checkout, share: 1, protocol: "http" },
  { from: catalog, to: postgres, share: 0.85, protocol: "postgres" },
  { from: catalog, to: redis, share: 0.5, protocol: "redis" },
  { from: cart, to: redis, share: 0.5, protocol: "redis" },
  { from: checkout, to: postgres, share: 0.15, protocol: "postgres" },
  { from: checkout, to: payments, share: 1, protocol: "http" },
  { from: checkout, to: rabbit, share: 1, protocol: "amqp" },
  { from: mailer, to: rabbit, share: 1, protocol: "amqp" },
];

const LARGE_NAMES = [
  ["edge", ["ingress", "gateway", "auth-proxy", "web", "mobile-bff"]],
  [
    "core",
    [
      "accounts",
      "sessions",
      "profiles",
      "orders",
      "baskets",
      "pricing",
      "promotions",
      "search",
      "recommendations",
      "inventory",
      "shipping",
      "returns",
      "billing",
      "invoices",
      "ledger",
      "fraud",
      "reviews",
      "media",
      "notifications",
      "subscriptions",
    ],
  ],
  [
    "jobs",
    ["indexer", "mail-worker", "sms-worker", "report-builder", "exporter", "reconciler", "thumbnailer", "cleaner"],
  ],
  [
    "data",
    [
      "accounts-db",
      "orders-db",
      "catalog-db",
      "ledger-db",
      "session-cache",
      "price-cache",
      "search-index",
      "event-bus",
      "media-store",
      "feature-flags",
    ],
  ],
] as const;

const largeType = (name: string): string =>
  /-db$/.test(name)
    ? "postgres"
    : /cache/.test(name)
      ? "redis"
      : /bus/.test(name)
        ? "kafka"
        : /index$/.test(name)
          ? "elasticsearch"
          : /ingress|proxy|gateway/.test(name)
            ? "envoy"
            : (["node", "go", "java", "python"][Math.floor(chance(name) * 4)] ?? "go");

const large = (): { readonly services: readonly Made[]; readonly calls: readonly Call[] } => {
  const groups = LARGE_NAMES.map(([namespace, names]) =>
    names.map((name) =>
      make(
        name,
        namespace === "data" ? "StatefulSet" : "Deployment",
        namespace,
        largeType(name),
        Math.round(5 + chance(`r${name}`) ** 2 * 900),
        1 + chance(`l${name}`) * 60,
      ),
    ),
  );
  const [edge = [], core = [], jobs = [], data = []] = groups;
  const calls: Call[] = [];
  const link = (from: Made | undefined, to: Made | undefined, protocol: string): void => {
    if (
      from !== undefined &&
      to !== undefined &&
      from !== to &&
      !calls.some((call) => call.from === from && call.to === to)
    )
      calls.push({ from, to, share: 0.2 + chance(`${from.name}>${to.name}`) * 0.6, protocol });
  };
  const [ingress, gateway, proxy, web, mobile] = edge;
  link(ingress, gateway, "http");
  link(gateway, proxy, "http");
  link(gateway, web, "http");
  link(gateway, mobile, "http");
  for (const [n, service] of core.entries()) {
    if (chance(`web${n}`) < 0.35) link(web, service, "http");
    if (chance(`mob${n}`) < 0.3) link(mobile, service, "http");
    for (const [m, other] of core.entries()) if (m > n && chance(`${n}-${m}`) < 0.085) link(service, other, "grpc");
    const store = data[Math.floor(chance(`store${n}`) * data.length)];
    link(service, store, store?.type ?? "tcp");
    if (chance(`bus${n}`) < 0.3) link(service, data[7], "kafka");
  }
  for (const [n, job] of jobs.entries()) {
    link(job, data[7], "kafka");
    link(job, core[Math.floor(chance(`job${n}`) * core.length)], "http");
  }
  link(proxy, core[0], "http");
  link(web, core[3], "http");
  link(mobile, core[3], "http");
  link(core[3], data[1], "postgres");
  link(core[13], data[1], "postgres");
  const hosts = Array.from({ length: 26 }, (_, n) =>
    make(
      ["kubelet", "containerd", "sshd", "cron", "systemd-journald", "chronyd", "dbus-daemon"][n % 7] ?? "agent",
      "HostProcess",
      `node-${1 + Math.floor(n / 7)}`,
      "process",
      0,
      0,
    ),
  );
  return { services: [...edge, ...core, ...jobs, ...data, ...hosts], calls };
};

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
    const rule = (
      objective: "availability" | "latency",
      long: string,
      short: string,
      threshold: number,
      severity: "critical" | "warning",
      burn: number,
    ) => ({
      objective,
      long,
      short,
      threshold,
      longBurn: burn * 0.7,
      shortBurn: burn,
      severity,
      firing: burn * 0.7 >= threshold,
    });
    return {
      availabilityObjective: 0.999,
      latencyObjective: 0.99,
      latencyThresholdMs: 500,
      budgetLeft: bad ? 0.18 : 0.94,
      good: 41_238_112,
      bad: bad ? 33_914 : 2_461,
      burn: [
        rule("availability", "1 h", "5 min", 14.4, "critical", bad ? 41 : 0.2),
        rule("availability", "6 h", "30 min", 6, "critical", bad ? 7.1 : 0.3),
        rule("latency", "1 h", "5 min", 14.4, "critical", bad ? 9.2 : 0.1),
        rule("latency", "3 d", "6 h", 1, "warning", bad ? 0.9 : 0.1),
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

  overview(now: number): Overview {
    const agents = this.agents(now);
    return {
      cluster: "demo",
      version: "0.1.0",
      startedAt: this.startedAt,
      agents: {
        connected: Object.values(agents).filter((agent) => agent.state === "connected").length,
        known: Object.keys(agents).length,
      },
      services: this.services.length + this.late.length,
      openIncidents: this.troubled ? 1 : 0,
      suspicions: this.scenario === "large" ? 1 : 0,
      store: { state: "up", message: "", queuedRows: 1240, dropped: 0 },
      notices:
        this.scenario === "blind" || this.scenario === "large"
          ? ["TLS traffic is not read on node-3: uprobe budget exceeded"]
          : [],
    };
  }

  agents(now: number): Readonly<Record<string, AgentView>> {
    if (this.scenario === "empty") return {};
    const count = this.scenario === "large" ? 4 : 1;
    const features = [
      "tcp_connections",
      "http",
      "postgres",
      "redis",
      "pending_requests",
      "retransmits",
      "dns",
      "oom_kills",
      "cgroups",
      "processes",
    ];
    return Object.fromEntries(
      Array.from({ length: count }, (_, n) => {
        const id = `agent-${Math.floor(chance(`agent${n}`) * 0xffffffff)
          .toString(16)
          .slice(0, 8)}`;
        const blind = this.scenario === "blind";
        return [
          id,
          {
            id,
            node: `node-${n + 1}`,
            cluster: "demo",
            version: "0.1.0",
            kernel: "6.1.0-28-amd64",
            state: n === 3 ? "disconnected" : "connected",
            connectedAt: this.startedAt,
            lastFrameAt: n === 3 ? now - 190_000 : now - 300,
            clockOffsetMs: (chance(`o${n}`) - 0.5) * 8,
            window: 5400 + Math.floor((now - this.startedAt) / 1000),
            framesPerSecond: n === 3 ? 0 : 2.1,
            bytesPerSecond: n === 3 ? 0 : 18_400 + chance(`b${Math.floor(now / 1000)}`) * 2000,
            instances: 18,
            edges: 24,
            capabilities: [
              ...features.map((feature) =>
                blind && feature !== "processes" && feature !== "cgroups"
                  ? ({
                      feature,
                      state: "off",
                      errno: 1,
                      reason: "loading BPF programs was refused: CAP_BPF is missing",
                    } as const)
                  : ({ feature, state: "on", errno: 0, reason: "" } as const),
              ),
              n === 2
                ? ({
                    feature: "tls",
                    state: "degraded",
                    errno: 0,
                    reason: "uprobe budget of 5 % exceeded: counted in duty cycles",
                  } as const)
                : ({ feature: "tls", state: "off", errno: 2, reason: "no libssl found on this machine" } as const),
            ],
            losses: n === 1 ? { events_dropped: 1204, spool_rows: 0 } : { events_dropped: 0 },
            conflicts: 0,
          } satisfies AgentView,
        ];
      }),
    );
  }

  incidents(): Readonly<Record<string, IncidentCard>> {
    const past = (
      n: number,
      status: "resolved" | "blip",
      headline: string,
      service: Made | undefined,
    ): readonly (readonly [string, IncidentCard])[] =>
      service === undefined
        ? []
        : [
            [
              `inc-${n}`,
              {
                id: `inc-${n}`,
                status,
                severity: "critical",
                service: service.id,
                headline,
                cause: status === "blip" ? null : { service: service.id, kind: "memory", confidence: "medium" },
                impact: 0.034,
                suspectedAt: this.startedAt - n * 4_000_000,
                openedAt: status === "blip" ? null : this.startedAt - n * 4_000_000 + 15_000,
                resolvedAt: this.startedAt - n * 4_000_000 + (status === "blip" ? 9_000 : 420_000),
                members: 2,
              },
            ],
          ];
    const history = [
      ...past(1, "resolved", "cart answers 3.4 % of requests with errors", this.services[3]),
      ...past(2, "blip", "front answered slower than its objective for 9 s", this.services[1]),
      ...past(5, "resolved", "nginx refused connections", this.services[0]),
    ];
    const incident = this.incident();
    if (incident === null) return Object.fromEntries(history);
    const [cause] = incident.rca?.causes ?? [];
    const open: IncidentCard = {
      id: incident.id,
      status: incident.status,
      severity: incident.severity,
      service: incident.service,
      headline: incident.headline,
      cause: cause === undefined ? null : { service: cause.service, kind: cause.kind, confidence: cause.confidence },
      impact: incident.impact,
      suspectedAt: incident.suspectedAt,
      openedAt: incident.openedAt,
      resolvedAt: null,
      members: incident.members.length,
    };
    return Object.fromEntries([[open.id, open], ...history]);
  }

  incident(): Incident | null {
    if (!this.troubled) return null;
    const find = (name: string): Made | undefined => this.services.find((service) => service.name === name);
    const chain = (
      this.scenario === "large" ? ["web", "orders", "orders-db"] : ["nginx", "front", "catalog", "postgres"]
    ).flatMap((name) => find(name) ?? []);
    const [first] = chain;
    const root = chain[chain.length - 1];
    if (first === undefined || root === undefined) return null;
    const t = this.incidentAt;
    const evidence = (
      id: string,
      service: Made,
      series: string,
      text: string,
      normal: number | null,
      value: number,
      unit: Evidence["unit"],
      z: number | null,
    ): Evidence => ({ id, service: service.id, series, normal, value, unit, z, from: t, to: t + 20_000, text });
    return {
      id: "inc-7f3a",
      cluster: "demo",
      status: "open",
      severity: "critical",
      service: first.id,
      members: chain.map((service) => service.id),
      headline: `${first.name} fails 11 % of requests and is 8 times slower than normal`,
      impact: 0.112,
      onsetAt: t,
      suspectedAt: t + 2400,
      openedAt: t + 15_000,
      resolvedAt: null,
      rca: {
        at: t + 3100,
        tookMs: 42,
        target: first.id,
        causes: [
          {
            service: root.id,
            kind: "cpu_throttling",
            confidence: "high",
            score: 0.87,
            headline: `${root.name} is throttled by its CPU limit of 0.25 cores`,
            path: chain.slice(1).map((service, n) => ({
              from: chain[n]?.id ?? service.id,
              to: service.id,
              measure: "latency",
              callerChange: 190 - n * 14,
              calleeChange: 182 - n * 12,
              share: 0.96 - n * 0.04,
              requests: service.rate,
              failedConnects: service === root ? 3.4 : 0,
            })),
            evidence: [
              evidence("e1", root, "container_cpu_throttled", "CPU throttled share of periods", 0, 0.71, "ratio", 34.2),
              evidence("e2", root, "container_cpu_usage", "CPU used, equal to the limit", 0.11, 0.25, "cores", 9.1),
              evidence("e3", root, "request_latency_p95", "Latency of its requests, p95", 2.9, 176, "ms", 28.8),
              evidence(
                "e4",
                root,
                "failed_connects",
                "Connects that its clients failed to make",
                0,
                3.4,
                "per_second",
                null,
              ),
            ],
            nextStep: `Raise the CPU limit of ${root.name} to at least 1 core (docker update --cpus 1 ${root.name}), or take the batch job off it.`,
            refutedBy:
              "The throttled share staying at 71 % after the limit was raised, or latency staying high with throttling gone.",
          },
          {
            service: chain[1]?.id ?? root.id,
            kind: "waiting_inside",
            confidence: "low",
            score: 0.08,
            headline: `${chain[1]?.name ?? root.name} waits inside itself, for instance for a lock or a pool`,
            path: [],
            evidence: [
              evidence("e5", chain[1] ?? root, "self_time", "Time not spent in calls to others", 4, 9, "ms", 2.2),
            ],
            nextStep: "Look at its thread pool.",
            refutedBy: "Its own time staying at its normal level.",
          },
        ],
        ruledOut: [
          {
            service: (find("redis") ?? find("session-cache") ?? root).id,
            reason: "latency and errors unchanged (z 0.4)",
          },
          { service: (find("cart") ?? find("baskets") ?? root).id, reason: "explains 2 % of the change" },
        ],
        gaps: ["External services are seen from the client's side only."],
      },
      timeline: [
        { at: t, kind: "onset", service: root.id, text: "Latency begins to rise" },
        { at: t + 1000, kind: "event", service: root.id, text: "CPU limit lowered from 2 to 0.25 cores" },
        { at: t + 2400, kind: "suspicion", service: first.id, text: "The fast rule suspects an outage" },
        { at: t + 3100, kind: "cause", service: root.id, text: "Cause found in 42 ms: CPU throttling" },
        { at: t + 9000, kind: "joined", service: chain[1]?.id ?? null, text: "Also breaches its objective" },
        { at: t + 15_000, kind: "opened", service: first.id, text: "Suspicion outlived 15 s: incident opened" },
        { at: t + 15_400, kind: "alert", service: null, text: "Webhook told, answered 200 after 38 ms" },
      ],
      version: 4,
    };
  }

  actors(second: number, now: number): Readonly<Record<string, ActorView>> {
    const rows = new Map<string, ActorView>();
    const add = (
      path: string,
      kind: string,
      parent: string | null,
      busy: number,
      over: Partial<ActorView> = {},
    ): void => {
      const wave = 0.8 + 0.4 * chance(`${path}${second}`);
      rows.set(path, {
        path,
        kind,
        parent,
        state: busy > 0 ? "running" : "idle",
        startedAt: this.startedAt,
        mailbox: Math.round(busy * 0.02 * wave),
        mailboxBound: 1024,
        mailboxWaitP95Ms: 0.4 * wave,
        handleP95Ms: 0.18 * wave,
        inPerSecond: busy * wave,
        outPerSecond: busy * 0.6 * wave,
        handled: Math.round((busy * (now - this.startedAt)) / 1000),
        merged: 0,
        shed: 0,
        restarts: 0,
        stateBytes: Math.round(2000 + chance(path) * 30_000),
        lastError: null,
        deadLetters: 0,
        ...over,
      });
    };
    add("/server", "guardian", null, 0);
    add("/server/topology", "topology", "/server", 4);
    add("/server/incident-desk", "incident", "/server", this.troubled ? 1 : 0);
    add("/server/sinks", "guardian", "/server", 0);
    add("/server/sinks/webhook", "alert-sink", "/server/sinks", 0, {
      restarts: 1,
      lastError: "connect ECONNREFUSED 127.0.0.1:9999",
      deadLetters: 1,
    });
    add("/server/agents", "guardian", "/server", 0);
    for (const id of Object.keys(this.agents(now))) add(`/server/agents/${id}`, "agent-session", "/server/agents", 2);
    add("/server/partitions", "guardian", "/server", 0);
    for (const [n, service] of this.services.entries()) {
      const partition = `/server/partitions/${Math.floor(chance(service.id) * 16)}`;
      if (!rows.has(partition)) add(partition, "partition", "/server/partitions", 12);
      add(
        `${partition}/${service.id}`,
        "service",
        partition,
        service.rate > 0 ? 3 + service.rate / 300 : 0,
        n === 6
          ? { state: "quarantined", restarts: 3, shed: 12, lastError: "RangeError: histogram has 109 counters" }
          : {},
      );
    }
    return Object.fromEntries(rows);
  }
}
