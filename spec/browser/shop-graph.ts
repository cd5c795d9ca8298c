/** Who is in the generated shops and who calls whom: the small shop of the demo, and one with more than sixty services. */
import { serviceId, type ServiceId } from "../../schemas/service.ts";

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
export const client = make("load", "HostProcess", "node-1", "process", 0, 0);
const payments = make("api.payments.example", "External", "", "external", 24, 120);

export const SHOP: readonly Made[] = [
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

export const SHOP_CALLS: readonly Call[] = [
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
  name.endsWith("-db")
    ? "postgres"
    : /cache/.test(name)
      ? "redis"
      : /bus/.test(name)
        ? "kafka"
        : name.endsWith("index")
          ? "elasticsearch"
          : /ingress|proxy|gateway/.test(name)
            ? "envoy"
            : (["node", "go", "java", "python"][Math.floor(chance(name) * 4)] ?? "go");

export const large = (): { readonly services: readonly Made[]; readonly calls: readonly Call[] } => {
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
