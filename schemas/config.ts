/**
 * The configuration file, by Schema: server, node agent and demo read the same one. Every field may be left out; its
 * default stands beside it. A field that is not listed here is refused, so that a typing error cannot pass unseen.
 * Loading, environment and the data directory are in runtime/config.
 */
import { Schema } from "effect";

const LOOPBACK: readonly string[] = ["127.0.0.1", "::1", "localhost"];

/** What a person reads when the value is wrong, whichever check it failed. */
const says = (message: string) => ({ message: () => ({ message, override: true as const }) });

const named = (what: string) => Schema.String.pipe(Schema.minLength(1), Schema.annotations(says(what)));
const whole = (min: number, max: number) =>
  Schema.Int.pipe(Schema.between(min, max)).annotations(says(`expected a whole number from ${min} to ${max}`));
const ratio = Schema.Number.pipe(Schema.filter((n) => n > 0 && n < 1)).annotations(
  says("expected a number between 0 and 1, for example 0.99"),
);
const url = (schemes: readonly string[]) =>
  Schema.String.pipe(
    Schema.filter((text) => URL.canParse(text) && schemes.includes(new URL(text).protocol)),
    Schema.annotations(says(`expected a URL that starts with ${schemes.map((s) => `${s}//`).join(" or ")}`)),
  );

/** As an address to speak HTTP to: with user and password that can be read, if any. */
const httpUrl = url(["http:", "https:"]).pipe(
  Schema.filter(
    (text) => {
      const { username, password } = new URL(text);
      try {
        decodeURIComponent(username + password);
        return true;
      } catch {
        return false;
      }
    },
    { message: () => "expected % in user and password to be written as %25" },
  ),
);

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** A header that HTTP has no form for would fail each request. */
const headers = Schema.Record({ key: Schema.String, value: Schema.String }).pipe(
  Schema.filter(
    (all) =>
      Object.entries(all).every(([name, text]) => HEADER_NAME.test(name) && /^[\t\x20-\x7e\x80-\xff]*$/.test(text)),
    says("expected names and values of HTTP headers, without line breaks and such"),
  ),
);

const NATIVE =
  "expected the HTTP interface, for example http://host:8123 or https://host:8443; the native protocol (clickhouse://, tcp://, ports 9000 and 9440) is not spoken";

const flag = Schema.Boolean.annotations(says("expected true or false"));

const field = <A, I>(schema: Schema.Schema<A, I>, fallback: NoInfer<A>) =>
  Schema.optionalWith(schema, { exact: true, default: () => fallback });

const Server = Schema.Struct({
  /** Address to listen on. Until access control is built, only the machine itself may connect. */
  host: field(
    Schema.String.pipe(
      Schema.filter((host) => LOOPBACK.includes(host)),
      Schema.annotations(
        says(
          `expected ${LOOPBACK.join(", ")}: until access control is built the server binds 127.0.0.1 only and refuses other binds`,
        ),
      ),
    ),
    "127.0.0.1",
  ),
  /** Page, API, agents. 0 takes any free port. */
  port: field(whole(0, 65_535), 8080),
});

const Clickhouse = Schema.Struct({
  /** HTTP interface of a ClickHouse server, e.g. http://127.0.0.1:8123. Left out: the embedded engine. */
  url: Schema.optionalWith(
    httpUrl.pipe(
      Schema.filter((text) => !["9000", "9440"].includes(new URL(text).port)),
      Schema.annotations(says(NATIVE)),
    ),
    { exact: true },
  ),
  user: field(named("expected a user name"), "default"),
  password: field(Schema.String, ""),
  database: field(named("expected the name of a database"), "coroot"),
  /** Name of the cluster in the server's `remote_servers`: tables are replicated and distributed over it. */
  cluster: Schema.optionalWith(
    Schema.String.pipe(
      Schema.pattern(/^[A-Za-z0-9_.-]{1,128}$/),
      Schema.annotations(says("expected a name of letters, digits, dots, dashes or underscores")),
    ),
    { exact: true },
  ),
});
/** A cluster is one of a server's. */
const CheckedClickhouse = Clickhouse.pipe(
  Schema.filter(({ cluster, url: server }) =>
    cluster === undefined || server !== undefined
      ? undefined
      : { path: ["cluster"], message: "expected clickhouse.url with it: the embedded engine has no cluster" },
  ),
);

const Prometheus = Schema.Struct({
  /** Where metric samples are kept instead of the own tables: remote_write of Prometheus, VictoriaMetrics or Mimir. */
  remoteWriteUrl: Schema.optionalWith(httpUrl, { exact: true }),
  /** Where they are read: the base of Prometheus' HTTP API, e.g. http://prometheus:9090 or http://mimir/prometheus. */
  url: Schema.optionalWith(
    httpUrl.pipe(
      Schema.filter((text) => !/\/api\/v1(\/|$)/.test(new URL(text).pathname), {
        message: () =>
          "expected the base URL, before /api/v1, for example http://prometheus:9090 or http://mimir/prometheus",
      }),
    ),
    { exact: true },
  ),
  /** added to each request of both kinds, e.g. Authorization or X-Scope-OrgID */
  headers: field(headers, {}),
}).pipe(
  Schema.filter(({ url: read, remoteWriteUrl }) =>
    read === undefined || remoteWriteUrl !== undefined
      ? undefined
      : {
          path: ["remoteWriteUrl"],
          message:
            "expected where samples are written, since prometheus.url says that they are read elsewhere (Prometheus, VictoriaMetrics: http://host/api/v1/write; Mimir: http://host/api/v1/push)",
        },
  ),
);

const Keep = Schema.Struct({
  /** days; the embedded engine and a ClickHouse server alike */
  metricsDays: field(whole(1, 3_650), 7),
  logsDays: field(whole(1, 3_650), 7),
  tracesDays: field(whole(1, 3_650), 7),
  profilesDays: field(whole(1, 3_650), 7),
  incidentsDays: field(whole(1, 3_650), 90),
  /** minutes of judgement, from which error budgets are rebuilt */
  minutesDays: field(whole(35, 3_650), 35),
  /** Percent of the store's disk above which the oldest day of telemetry is dropped. 0: never. */
  diskPercent: field(whole(0, 99), 85),
});

const State = Schema.Struct({
  /** PostgreSQL that several servers share, e.g. postgres://user:password@host/database. Left out: a file in `data`. */
  url: Schema.optionalWith(url(["postgres:", "postgresql:"]), { exact: true }),
  /** most connections that one server keeps; one of them holds its locks */
  connections: field(whole(3, 100), 8),
});

const Replica = Schema.Struct({
  /** name of this server among its replicas, for people; left out: its host name */
  name: Schema.optionalWith(named("expected a name"), { exact: true }),
  /** where the placement engine of this server listens for the others; used only with state.url */
  host: field(
    Schema.String.pipe(
      Schema.filter((host) => LOOPBACK.includes(host)),
      Schema.annotations(says(`expected ${LOOPBACK.join(", ")}: replicas on other machines wait for access control`)),
    ),
    "127.0.0.1",
  ),
  port: field(whole(1, 65_535), 34_431),
});

export const Webhook = Schema.Struct({
  /** for the timeline and the counters; unique */
  name: named("expected a name"),
  url: url(["http:", "https:"]),
  /** added to each delivery, e.g. Authorization */
  headers: field(headers, {}),
});
export type Webhook = typeof Webhook.Type;

const Alerts = Schema.Struct({
  /** where incidents are posted; empty: the page only */
  webhooks: field(
    Schema.Array(Webhook).pipe(
      Schema.filter((all) => new Set(all.map((one) => one.name)).size === all.length, {
        message: () => "expected names that differ",
      }),
    ),
    [],
  ),
});

const Slo = Schema.Struct({
  /** share of requests that must succeed */
  availabilityObjective: field(ratio, 0.99),
  /** share of requests that must be faster than latencyThresholdMs */
  latencyObjective: field(ratio, 0.99),
  latencyThresholdMs: field(
    Schema.Number.pipe(Schema.between(0.001, 134_000)).annotations(says("expected milliseconds from 0.001 to 134000")),
    500,
  ),
  /** how long a suspicion must last before it becomes an incident */
  holdSeconds: field(whole(1, 3600), 15),
});

const LINK = ["http:", "https:", "ws:", "wss:"] as const;

const HOOKS = ["best", "syscalls"] as const;

const Agent = Schema.Struct({
  /** the server that the agent reports to, or a list: replicas of one deployment, of which any will do */
  server: field(
    Schema.Union(url(LINK), Schema.NonEmptyArray(url(LINK))).annotations(
      says(`expected a URL that starts with ${LINK.map((one) => `${one}//`).join(" or ")}, or a list of them`),
    ),
    "http://127.0.0.1:8080",
  ),
  /** name of this machine; left out: its host name */
  node: Schema.optionalWith(named("expected a name"), { exact: true }),
  /** file with the agent's key; left out: agent.key in the data directory */
  keyFile: Schema.optionalWith(named("expected a path"), { exact: true }),
  /** disk that telemetry may take while the server is away; the oldest is dropped, and counted, above it */
  spoolMaxBytes: field(whole(0, 2 ** 40), 256 * 1024 * 1024),
  /** where the agent serves its own /metrics, in the clear and without a key; left out: nowhere */
  metrics: Schema.optionalWith(
    Schema.String.pipe(
      Schema.pattern(
        /^(\[[0-9a-fA-F:]+\]|[^:]+):\d{1,5}$/,
        says("expected an address and a port, such as 127.0.0.1:9102"),
      ),
    ),
    { exact: true },
  ),
  /** observe network traffic with eBPF */
  traffic: field(flag, true),
  /** how requests are seen: the kernel's best way, or at the end of system calls as on kernels before 6.3 */
  hooks: field(Schema.Literal(...HOOKS).annotations(says(`expected one of ${HOOKS.join(", ")}`)), "best"),
  /** read requests within TLS, by hooks in the functions of OpenSSL */
  tls: field(flag, true),
  /** what such hooks may cost a program, of its CPU time; 0: no limit */
  tlsBudgetPercent: field(whole(0, 1000), 5),
  /** make spans of requests that are sampled, slow or failed */
  spans: field(flag, true),
  /** one of so many requests is sampled, rounded up to a power of two */
  spansSampleOneOf: field(whole(1, 32_768), 64),
  /** spans in a second at most, on each machine, of each kind; what is above is counted */
  spansSampledPerSecond: field(whole(0, 10_000), 50),
  spansSlowPerSecond: field(whole(0, 10_000), 50),
  spansFailedPerSecond: field(whole(0, 10_000), 50),
  /** a request that takes longer is slow, where its service has no threshold of its own */
  spansSlowMs: field(whole(0, 3_600_000), 500),
});

const Recording = Schema.Struct({
  /** paths of actors whose messages are recorded from their start, and * stands for anything */
  actors: field(Schema.Array(named("expected the path of an actor, in which * stands for anything")), []),
  maxBytesPerActor: field(whole(1024, 2 ** 40), 64 * 1024 * 1024),
  maxBytes: field(whole(1024, 2 ** 40), 512 * 1024 * 1024),
});

const Services = Schema.Struct({
  /** several services that are one, by globs over their ids (cluster/namespace/Kind/name, * stands for anything) */
  custom: field(
    Schema.Array(
      Schema.Struct({
        name: named("expected a name"),
        match: Schema.NonEmptyArray(named("expected a service id in which * stands for anything")),
      }),
    ),
    [],
  ),
  /** globs by category, beside the built-in ones of control-plane and monitoring */
  categories: field(
    Schema.Record({
      key: Schema.String,
      value: Schema.Array(named("expected a service id in which * stands for anything")),
    }),
    {},
  ),
});

const Databases = Schema.Struct({
  /** Logins for a stock coroot-cluster-agent, by globs over service ids; the first that matches counts. */
  credentials: field(
    Schema.Array(
      Schema.Struct({
        match: named("expected a service id in which * stands for anything"),
        username: named("expected a user name"),
        password: field(Schema.String, ""),
        /** of the driver: sslmode of PostgreSQL, tls of MySQL */
        params: field(Schema.Record({ key: Schema.String, value: Schema.String }), {}),
      }),
    ),
    [],
  ),
});

const Otlp = Schema.Struct({
  /** OpenTelemetry over gRPC, on the address of server.host; 0 turns it off. OTLP/HTTP has the page's port. */
  grpcPort: field(whole(0, 65_535), 4317),
});

const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;

export const Config = Schema.Struct({
  // a part that is left out is the same as an empty one
  server: Schema.optionalWith(Server, { exact: true, default: () => Server.make({}) }),
  /** Directory for everything that is kept. Left out: /var/lib/coroot as root, else ~/.local/share/coroot. */
  data: Schema.optionalWith(named("expected a path"), { exact: true }),
  /** Name of this set of machines: the first part of every service id. */
  cluster: field(
    Schema.String.pipe(
      Schema.pattern(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
      Schema.annotations(says("expected at most 63 letters, digits, dots, dashes or underscores")),
    ),
    "default",
  ),
  clickhouse: Schema.optionalWith(CheckedClickhouse, { exact: true, default: () => Clickhouse.make({}) }),
  prometheus: Schema.optionalWith(Prometheus, { exact: true, default: () => ({ headers: {} }) }),
  keep: Schema.optionalWith(Keep, { exact: true, default: () => Keep.make({}) }),
  state: Schema.optionalWith(State, { exact: true, default: () => State.make({}) }),
  replica: Schema.optionalWith(Replica, { exact: true, default: () => Replica.make({}) }),
  alerts: Schema.optionalWith(Alerts, { exact: true, default: () => Alerts.make({}) }),
  slo: Schema.optionalWith(Slo, { exact: true, default: () => Slo.make({}) }),
  services: Schema.optionalWith(Services, { exact: true, default: () => Services.make({}) }),
  databases: Schema.optionalWith(Databases, { exact: true, default: () => Databases.make({}) }),
  otlp: Schema.optionalWith(Otlp, { exact: true, default: () => Otlp.make({}) }),
  recording: Schema.optionalWith(Recording, { exact: true, default: () => Recording.make({}) }),
  agent: Schema.optionalWith(Agent, { exact: true, default: () => Agent.make({}) }),
  log: field(Schema.Literal(...LOG_LEVELS).annotations(says(`expected one of ${LOG_LEVELS.join(", ")}`)), "info"),
});
export type Config = typeof Config.Type;
