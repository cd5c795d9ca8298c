/** Debian's Prometheus as the oracle: the same samples, the same queries, the same answers to nine digits. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Effect } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { answerPrometheus } from "../../../runtime/http/prometheusApi.ts";
import { difference, openBed, type Bed } from "./compare.ts";
import { DEVIATIONS, QUERIES, REFUSED } from "./queries.ts";

const NEEDS = ["chdb", "prometheus"] as const;
const known = new Set(DEVIATIONS.map(({ query }) => query));

describeWith(NEEDS, "PromQL beside Prometheus", () => {
  let bed: Bed;
  beforeAll(async () => {
    bed = await openBed();
  });
  afterAll(() => bed.close());

  const differences = async (kind: "range" | "instant", queries: readonly string[]): Promise<readonly string[]> => {
    const out: string[] = [];
    for (const query of queries) {
      const [theirs, ours] = await bed[kind](query);
      const found = difference(theirs, ours);
      if (found !== null) out.push(`${query}: ${found}`);
      else if (known.has(query)) out.push(`${query}: is equal, though it is listed as a deviation`);
      else if ("error" in theirs !== REFUSED.includes(query)) out.push(`${query}: refused by both, or by none`);
    }
    return out;
  };
  const unknown = (found: readonly string[]): readonly string[] =>
    found.filter((one) => !DEVIATIONS.some(({ query }) => one.startsWith(`${query}: `) && !one.includes("is equal")));

  itWith(NEEDS, `gives the same answers to ${QUERIES.length} queries over time`, async () => {
    expect(QUERIES.length).toBeGreaterThan(300);
    expect(DEVIATIONS.length).toBeLessThanOrEqual(5);
    expect(unknown(await differences("range", QUERIES))).toEqual([]);
  });

  itWith(NEEDS, "gives the same answers at a moment", async () => {
    expect(unknown(await differences("instant", QUERIES))).toEqual([]);
  });

  itWith(NEEDS, "refuses what Prometheus refuses", async () => {
    expect(await differences("range", REFUSED)).toEqual([]);
  });

  itWith(NEEDS, "gives the samples of a range as they are", async () => {
    for (const query of ["flaky[11m]", "up[3m] offset 5m", "odd_value[1m] @ end()", "temperature_celsius[5m:1m]"]) {
      const [theirs, ours] = await bed.instant(query);
      expect([query, difference(theirs, ours)]).toEqual([query, null]);
    }
  });

  itWith(NEEDS, "sorts as Prometheus does", async () => {
    for (const query of [
      "sort(temperature_celsius)",
      "sort_desc(odd_value)",
      "sort(odd_value)",
      "topk(3, memory_bytes)",
    ]) {
      const [theirs, ours] = await bed.instant(query);
      if ("error" in theirs || "error" in ours) throw new Error(`${query} is refused`);
      expect(ours.order).toEqual(theirs.order);
    }
  });

  itWith(NEEDS, "answers over HTTP in the same form", async () => {
    const { dataset, prometheus, metrics } = bed;
    const server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://localhost").pathname;
      Effect.runFork(answerPrometheus(metrics, path, request, response));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const own = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const at = dataset.endMs / 1000 - 61.5;
      const range = `start=${at - 600}&end=${at}&step=37.5`;
      const body = async (url: string): Promise<unknown> => {
        const answer = JSON.parse(await (await fetch(url)).text()) as { data: { result: unknown } };
        const { result } = answer.data;
        if (Array.isArray(result) && typeof result[0] === "object")
          result.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
        return answer;
      };
      const queries = [
        "up",
        "odd_value",
        "level * 2",
        "time()",
        "vector(0.1)",
        "nothing_at_all",
        "count(up)",
        "-level / 0",
      ];
      for (const query of queries)
        for (const path of [`query?time=${at}&`, `query_range?${range}&`]) {
          const asked = `/api/v1/${path}query=${encodeURIComponent(query)}`;
          expect([asked, await body(own + asked)]).toEqual([asked, await body(prometheus.url + asked)]);
        }
      for (const query of ["'text'", "up{job='api'}[31s]", "vector(1e-9 * 5)"]) {
        const asked = `/api/v1/query?time=${at}&query=${encodeURIComponent(query)}`;
        expect([asked, await body(own + asked)]).toEqual([asked, await body(prometheus.url + asked)]);
      }
      for (const asked of ["query?query=rate(up)", "query_range?query=up&start=1&end=2&step=0", "series", "query"]) {
        const [ours, theirs] = [
          await fetch(`${own}/api/v1/${asked}`),
          await fetch(`${prometheus.url}/api/v1/${asked}`),
        ];
        expect([asked, ours.status]).toEqual([asked, theirs.status]);
        const [a, b] = [await ours.json(), await theirs.json()] as { status: string; errorType: string }[];
        expect([a?.status, a?.errorType]).toEqual([b?.status, b?.errorType]);
      }
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  itWith(NEEDS, "lists the same series, labels and values", async () => {
    const { dataset, prometheus, ask } = bed;
    const get = async (path: string): Promise<unknown> =>
      ((await (await fetch(`${prometheus.url}/api/v1/${path}`)).json()) as { data: unknown }).data;
    const request = { selectors: ['{job=~"a.*"}', "flaky"], startMs: dataset.startMs, endMs: dataset.endMs };
    const match = `match[]=${encodeURIComponent('{job=~"a.*"}')}&match[]=flaky`;
    const sorted = (all: readonly object[]): readonly string[] =>
      all.map((one) => JSON.stringify(Object.entries(one).sort())).sort();
    const ours = await ask(({ series }) => series(request));
    expect(sorted(ours.map((one) => Object.fromEntries(one)))).toEqual(
      sorted((await get(`series?${match}`)) as object[]),
    );
    expect(await ask(({ labels }) => labels(request))).toEqual(await get(`labels?${match}`));
    expect(await ask(({ labels }) => labels({ ...request, selectors: [] }))).toEqual(await get("labels"));
    for (const label of ["__name__", "job", "room", "nothing"]) {
      expect(await ask(({ labelValues }) => labelValues(label, { ...request, selectors: [] }))).toEqual(
        await get(`label/${label}/values`),
      );
      expect(await ask(({ labelValues }) => labelValues(label, request))).toEqual(
        await get(`label/${label}/values?${match}`),
      );
    }
  });
});
