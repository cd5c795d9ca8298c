/**
 * The small drawn signs, as path data on a 16×16 grid, used by the map's canvas and by the DOM alike.
 * Status is told by shape as well as by colour: disc, ring, triangle, diamond, bar.
 */
import type { HealthStatus } from "../../schemas/service.ts";

export interface Glyph {
  readonly path: string;
  /** drawn as a line of this width, else filled */
  readonly stroke: number;
}

export const STATUS_GLYPH: Readonly<Record<HealthStatus, Glyph>> = {
  ok: { path: "M8 3.6a4.4 4.4 0 1 1 0 8.8a4.4 4.4 0 0 1 0-8.8z", stroke: 0 },
  info: { path: "M8 4.2a3.8 3.8 0 1 1 0 7.6a3.8 3.8 0 0 1 0-7.6z", stroke: 1.8 },
  warning: { path: "M8 2.2L14.4 13.4H1.6z", stroke: 0 },
  critical: { path: "M8 1.4L14.6 8L8 14.6L1.4 8z", stroke: 0 },
  unknown: { path: "M3.5 8h9", stroke: 2.4 },
};

export const STATUS_WORD: Readonly<Record<HealthStatus, string>> = {
  ok: "OK",
  info: "Info",
  warning: "Warning",
  critical: "Critical",
  unknown: "Unknown",
};

/** Rising order of concern, for sorting. */
export const STATUS_RANK: Readonly<Record<HealthStatus, number>> = {
  unknown: 0,
  ok: 1,
  info: 2,
  warning: 3,
  critical: 4,
};

const line = (path: string): Glyph => ({ path, stroke: 1.3 });

const DATABASE = line(
  "M3 4.2c0-1.2 2.2-2 5-2s5 .8 5 2s-2.2 2-5 2s-5-.8-5-2zM3 4.2v7.6c0 1.2 2.2 2 5 2s5-.8 5-2V4.2M3 8c0 1.2 2.2 2 5 2s5-.8 5-2",
);
const CACHE = line("M8 2.2L14 5.2L8 8.2L2 5.2zM2 8.2L8 11.2L14 8.2M2 11L8 14L14 11");
const QUEUE = line("M2.2 3.6h3v8.8h-3zM6.5 3.6h3v8.8h-3zM10.8 3.6h3v8.8h-3z");
const PROXY = line("M2.2 8h4M9.8 5.2l4-2.2M9.8 10.8l4 2.2M8 5.6a2.4 2.4 0 1 1 0 4.8a2.4 2.4 0 0 1 0-4.8z");
const CODE = line("M5.4 4.4L1.8 8l3.6 3.6M10.6 4.4L14.2 8l-3.6 3.6M9.2 3.2L6.8 12.8");
const PROCESS = line("M2.2 3h11.6v10H2.2zM4.6 6.2L6.8 8.2L4.6 10.2M8.2 10.4h3.2");
const WORLD = line(
  "M8 2a6 6 0 1 1 0 12a6 6 0 0 1 0-12zM2 8h12M8 2c2 2 2.6 4 2.6 6s-.6 4-2.6 6c-2-2-2.6-4-2.6-6S6 4 8 2z",
);
const BOX = line("M8 2L13.6 5v6L8 14L2.4 11V5zM2.4 5L8 8l5.6-3M8 8v6");

const TYPES: readonly (readonly [RegExp, Glyph])[] = [
  [
    /postgres|mysql|maria|mongo|clickhouse|cockroach|cassandra|sqlite|oracle|mssql|sql|database|elastic|opensearch|etcd|victoria|prometheus/,
    DATABASE,
  ],
  [/redis|valkey|memcache|dragonfly|keydb|cache/, CACHE],
  [/rabbit|kafka|nats|pulsar|queue|amqp|zookeeper/, QUEUE],
  [/nginx|envoy|haproxy|traefik|proxy|caddy|apache|httpd|ingress|gateway|pgbouncer|coredns|dns/, PROXY],
  [/external|internet|world|outside/, WORLD],
  [/node|java|jvm|python|go|dotnet|ruby|php|rust|http|grpc|web|app/, CODE],
  [/process|host|systemd|unit|daemon|system/, PROCESS],
];

/** What a service is made of, as a sign; the kind decides when the type says nothing. */
export const typeGlyph = (type: string, kind: string): Glyph => {
  for (const text of [type.toLowerCase(), kind.toLowerCase()])
    for (const [pattern, glyph] of TYPES) if (pattern.test(text)) return glyph;
  return BOX;
};
