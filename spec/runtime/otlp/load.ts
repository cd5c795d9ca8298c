/**
 * Requests as a busy shop would send them, for specs and benchmarks: 10 services, each span with a resource of five
 * attributes and eight of its own (297 B in protobuf), log lines of about 100 characters, half of them with a trace.
 * Random, but the same for the same seed.
 */
import { encodeLogRequest, encodeTraces } from "./proto.ts";

/** Mulberry32: a small generator with a seed. */
export const makeRandom = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
};

const string = (key: string, text: string) => ({ key, value: { stringValue: text } });
const int = (key: string, number: number) => ({ key, value: { intValue: number } });

const bytes = (random: () => number, length: number): Buffer => {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = Math.floor(random() * 256);
  return out;
};

const nanosText = (ms: number, random: () => number): string =>
  `${Math.floor(ms)}${String(Math.floor(random() * 1e6)).padStart(6, "0")}`;

const resource = (service: number, pod: number) => ({
  attributes: [
    string("service.name", `shop-service-${service}`),
    string("k8s.namespace.name", "shop"),
    string("k8s.pod.name", `shop-service-${service}-7c9d8f6b5-x${pod}`),
    string("host.name", `node-${pod}`),
    string("service.version", "1.14.2"),
    string("telemetry.sdk.language", "nodejs"),
    string("deployment.environment", "production"),
  ],
});

const METHODS = ["GET", "GET", "GET", "POST", "PUT"];
const ROUTES = ["/api/cart", "/api/cart/{id}", "/api/items", "/api/items/{id}", "/api/checkout", "/healthz"];
const pick = <T>(random: () => number, all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;

/** One request of `spans` spans from four services, around `ms`. */
export const traceRequest = (seed: number, spans: number, ms: number): Buffer => {
  const random = makeRandom(seed);
  const services = 4;
  let trace = bytes(random, 16);
  let parent: Buffer = Buffer.alloc(0);
  const span = () => {
    if (random() < 0.2) {
      trace = bytes(random, 16);
      parent = Buffer.alloc(0);
    }
    const id = bytes(random, 8);
    const start = ms + random() * 1000;
    const took = 0.3 + -Math.log(random()) * 20;
    const route = pick(random, ROUTES);
    const method = pick(random, METHODS);
    const status = random() < 0.02 ? 500 : 200;
    const one = {
      traceId: trace,
      spanId: id,
      parentSpanId: parent,
      name: `${method} ${route}`,
      kind: 1 + Math.floor(random() * 3),
      startTimeUnixNano: nanosText(start, random),
      endTimeUnixNano: nanosText(start + took, random),
      attributes: [
        string("http.request.method", method),
        string("http.route", route),
        int("http.response.status_code", status),
        string("server.address", `shop-service-${Math.floor(random() * 10)}`),
        int("server.port", 8080),
        string("network.protocol.version", "1.1"),
        string("url.scheme", "http"),
        int("thread.id", Math.floor(random() * 16)),
      ],
      status: status === 500 ? { code: 2 } : {},
    };
    parent = id;
    return one;
  };
  return encodeTraces({
    resourceSpans: Array.from({ length: services }, (_, i) => ({
      resource: resource((seed + i) % 10, seed % 3),
      scopeSpans: [
        {
          scope: { name: "@opentelemetry/instrumentation-http" },
          spans: Array.from({ length: spans / services }, span),
        },
      ],
    })),
  });
};

const LINES: readonly ((random: () => number) => string)[] = [
  (random) =>
    `order ${Math.floor(random() * 1e6)} placed by user ${Math.floor(random() * 1e4)} in ${(random() * 90).toFixed(1)} ms`,
  (random) =>
    `GET /api/items/${Math.floor(random() * 1e5)} 200 ${Math.floor(random() * 9000)} bytes from 10.0.${Math.floor(random() * 8)}.${Math.floor(random() * 250)}`,
  () => "cache miss for the front page, it is rendered anew and kept for thirty seconds",
  (random) => `connection to postgres:5432 was lost, attempt ${Math.floor(random() * 5)} of 5 in 200 ms`,
  (random) =>
    `payment ${bytes(random, 4).toString("hex")} accepted by the provider, amount ${Math.floor(random() * 400)}.00 EUR`,
];

/** One request of `records` log records from four services, around `ms`. */
export const logRequest = (seed: number, records: number, ms: number): Buffer => {
  const random = makeRandom(seed);
  const services = 4;
  const record = () => {
    const traced = random() < 0.5;
    return {
      timeUnixNano: nanosText(ms + random() * 1000, random),
      severityNumber: pick(random, [9, 9, 9, 9, 5, 13, 17]),
      severityText: "",
      body: { stringValue: pick(random, LINES)(random) },
      attributes: [
        string("logger", pick(random, ["http", "orders", "db"])),
        int("thread.id", Math.floor(random() * 16)),
      ],
      ...(traced ? { traceId: bytes(random, 16), spanId: bytes(random, 8) } : {}),
    };
  };
  return encodeLogRequest({
    resourceLogs: Array.from({ length: services }, (_, i) => ({
      resource: resource((seed + i) % 10, seed % 3),
      scopeLogs: [{ scope: { name: "shop.logger" }, logRecords: Array.from({ length: records / services }, record) }],
    })),
  });
};
