/** Debian's Prometheus as a sender: what it scraped is in the store, each sample once, with its stale marker. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Effect } from "effect";
import { expect } from "vitest";
import type { Door } from "../../../runtime/doors/Door.ts";
import { DoorRefusal } from "../../../runtime/doors/Door.ts";
import { metricsDoor } from "../../../runtime/doors/metrics.ts";
import { makeSamplesIntake } from "../../../runtime/remote-write/Intake.ts";
import { Store } from "../../../runtime/store/Store.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { describeWith, itWith } from "../../capabilities.ts";
import { DOOR_KEY, serveDoors } from "../doors/client.ts";
import { freshFolder, makeStore, removeFolder, until, whenUp } from "../store/harness.ts";
import { MetricsServer } from "./MetricsServer.ts";

/** Counts scrapes; `passing` is there in the first ones only, so that Prometheus marks it stale. */
const exporter = async () => {
  let scrapes = 0;
  const server = createServer((_, response) => {
    scrapes++;
    const passing = scrapes <= 10 ? `# TYPE passing gauge\npassing{zone="a"} ${scrapes}\n` : "";
    response.end(`# TYPE scrapes_total counter\nscrapes_total ${scrapes}\n${passing}`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    scrapes: () => scrapes,
    close: () => server.close(),
  };
};

/** Takes every third call, but its answer is lost; and is behind for every seventh. */
const unlucky = (door: Door): Door & { readonly calls: () => number } => {
  let calls = 0;
  return {
    ...door,
    calls: () => calls,
    handle: (call) => {
      calls++;
      const later = new DoorRefusal({ status: 503, message: "later", retryAfter: 1 });
      if (calls % 7 === 0) return Effect.fail(later);
      return calls % 3 === 0 ? Effect.zipRight(door.handle(call), Effect.fail(later)) : door.handle(call);
    },
  };
};

describeWith(["chdb", "prometheus"], "Prometheus as a sender", () => {
  itWith(["chdb", "prometheus"], "has every sample stored once, though answers are lost", async () => {
    const data = freshFolder();
    const runtime = makeStore(data);
    await runtime.runPromise(whenUp);
    const door = unlucky(metricsDoor(makeSamplesIntake(await runtime.runPromise(Writer))));
    const doors = await serveDoors([door]);
    const target = await exporter();
    const prometheus = await MetricsServer.prometheus(`
global: { scrape_interval: 100ms }
scrape_configs:
  - job_name: spec
    static_configs: [{ targets: ["127.0.0.1:${target.port}"] }]
remote_write:
  - url: ${doors.url}/v1/metrics
    # Debian's build does not send the headers that it is configured to send
    authorization: { credentials: ${DOOR_KEY} }
    queue_config: { batch_send_deadline: 100ms, min_backoff: 30ms }
`);
    try {
      const stored = Effect.flatMap(Store, ({ query }) =>
        query<{ name: string; job: string; instance: string; values: number[]; stale: number; times: number }>(
          `SELECT one.1 AS name, one.2['job'] AS job, one.2['instance'] AS instance,
             groupArrayIf(value, NOT isNaN(value)) AS values, uniqExact(ts) AS times,
             countIf(reinterpretAsUInt64(value) = 0x7ff0000000000002) AS stale
           FROM (SELECT fp, ts, value, one FROM coroot.samples INNER JOIN
             (SELECT fp, any((name, labels)) AS one FROM coroot.series WHERE name IN ('scrapes_total', 'passing') GROUP BY fp) AS s
             USING fp ORDER BY ts) GROUP BY one ORDER BY name`,
        ),
      );
      const found = await runtime.runPromise(
        until(
          stored,
          (rows) =>
            rows.length === 2 && rows.every(({ values }) => values.length >= 10) && (rows[1]?.values.length ?? 0) >= 60,
        ),
      );
      const [passing, scrapes] = found;
      expect([passing?.name, passing?.job, passing?.instance]).toEqual(["passing", "spec", `127.0.0.1:${target.port}`]);
      // the scrape itself counts up, so each value is there once if each sample is
      expect(passing?.values).toEqual(Array.from({ length: 10 }, (_, i) => i + 1));
      expect([passing?.stale, passing?.times]).toEqual([1, 11]);
      const count = scrapes?.values.length ?? 0;
      expect(scrapes?.values).toEqual(Array.from({ length: count }, (_, i) => i + 1));
      expect(target.scrapes()).toBeGreaterThanOrEqual(count);
      expect(door.calls()).toBeGreaterThan(7);
    } finally {
      await prometheus.stop();
      target.close();
      await doors.close();
      await runtime.dispose();
      removeFolder(data);
    }
  });
});
