/**
 * What others send, beside the agents, in a process of its own: `doorsWork.ts OPTIONS` posts OTLP spans and logs and a
 * remote_write at a steady pace until its input ends, then writes one line of JSON: records that the server took, by
 * signal. Bodies are made before the first is sent, all different, since the same one twice is stored once.
 */
import { Agent, request } from "node:http";
import { logRequest, traceRequest } from "../../../runtime/otlp/load.ts";
import { makeLoad, SAMPLES_PER_CALL } from "../../../runtime/remote-write/load.ts";

export interface DoorsOptions {
  readonly url: string;
  readonly key: string;
  /** bodies of each signal; when they are used up the load ends */
  readonly seconds: number;
}

/** records that the server took */
export interface Taken {
  readonly spans: number;
  readonly logs: number;
  readonly samples: number;
  readonly refused: number;
}

const RECORDS = 500;
const PER_SECOND = 4;
const SCRAPES_EVERY_S = 4;

const { url, key, seconds } = JSON.parse(process.argv[2] ?? "") as DoorsOptions;
const agent = new Agent({ keepAlive: true, maxSockets: 32 });
const post = (path: string, body: Buffer, headers: Record<string, string>): Promise<boolean> =>
  new Promise((resolve) => {
    const all = {
      "content-type": "application/x-protobuf",
      "x-api-key": key,
      "content-length": body.length,
      ...headers,
    };
    const sent = request(new URL(path, url), { method: "POST", agent, headers: all }, (response) => {
      response.resume();
      response.on("end", () => resolve((response.statusCode ?? 500) < 300));
    });
    // counted as not taken
    sent.on("error", () => resolve(false));
    sent.end(body);
  });

const now = Date.now();
const calls = Array.from({ length: seconds * PER_SECOND }, (_, i) => ({
  spans: traceRequest(i + 1, RECORDS, now),
  logs: logRequest(i + 1, RECORDS, now),
}));
const load = makeLoad(now);
const samples = Array.from({ length: Math.ceil(seconds / SCRAPES_EVERY_S) }, () => load.scrape().bodies).flat();
const WRITE = { "content-encoding": "snappy", "x-prometheus-remote-write-version": "0.1.0" };

const taken = { spans: 0, logs: 0, samples: 0, refused: 0 };
const count = async (what: "spans" | "logs" | "samples", records: number, answer: Promise<boolean>): Promise<void> => {
  if (await answer) taken[what] += records;
  else taken.refused += records;
};

process.stdout.write("ready\n");
let next = 0;
const underWay = new Set<Promise<void>>();
const track = (one: Promise<void>): void => {
  underWay.add(one);
  void one.finally(() => underWay.delete(one));
};
const timer = setInterval(() => {
  const call = calls[next++];
  if (call === undefined) return clearInterval(timer);
  track(count("spans", RECORDS, post("/v1/traces", call.spans, {})));
  track(count("logs", RECORDS, post("/v1/logs", call.logs, {})));
  const body = samples[next - 1];
  if (body !== undefined) track(count("samples", SAMPLES_PER_CALL, post("/v1/metrics", body, WRITE)));
}, 1_000 / PER_SECOND);

process.stdin.resume().on("end", () => {
  clearInterval(timer);
  void Promise.all(underWay).then(() => process.stdout.write(`${JSON.stringify(taken)}\n`, () => process.exit(0)));
});
