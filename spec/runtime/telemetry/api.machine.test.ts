/** The API's routes for logs and traces over the real engine: what they take, what they refuse, and what they cannot be made to do. */
import { Effect } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { Logs } from "../../../runtime/telemetry/Logs.ts";
import { Traces } from "../../../runtime/telemetry/Traces.ts";
import type { Trace } from "../../../schemas/telemetry.ts";
import { makeWorld, startServer, type ServerUnderTest } from "../http/page.ts";
import { freshFolder, removeFolder, stockClient, until, whenUp, type TestStore } from "../store/harness.ts";
import { makeTelemetry, sendLines, sendSpans, type TestTelemetry } from "./harness.ts";

const NOW = Date.now();
const ID = "0123456789abcdef0123456789abcdef";

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

describeWith(["chdb"], "the API for logs and traces", () => {
  let folder: string;
  let runtime: TestTelemetry;
  let under: ServerUnderTest;
  const address = (path: string, params: readonly (readonly [string, string])[] = []): string =>
    `${under.server.url}/api${path}?${new URLSearchParams(params.map(([name, value]) => [name, value])).toString()}`;
  const get = async (path: string, params: readonly (readonly [string, string])[] = []): Promise<Answer> => {
    const response = await fetch(address(path, params));
    return { status: response.status, body: (await response.json()) as Answer["body"] };
  };

  beforeAll(async () => {
    folder = freshFolder();
    runtime = makeTelemetry(folder);
    await runtime.runPromise(whenUp);
    const world = makeWorld();
    world.logs = await runtime.runPromise(Logs);
    world.traces = await runtime.runPromise(Traces);
    under = await startServer(world);
    await runtime.runPromise(
      sendLines([
        { service: "cart", at: NOW - 3_000, severity: 9, body: "order 1 placed", attributes: { a: "1" } },
        { service: "cart", at: NOW - 2_000, severity: 17, body: "order 2 failed", traceId: ID, attributes: { a: "2" } },
        { service: "web", at: NOW - 1_000, severity: 13, body: "slow" },
      ]),
    );
    await runtime.runPromise(
      sendSpans([
        { service: "web", name: "GET /", at: NOW - 5_000, ms: 100, traceId: ID, spanId: "00000000000000a1" },
        {
          service: "web",
          name: "call",
          at: NOW - 4_990,
          ms: 50,
          kind: 3,
          traceId: ID,
          spanId: "00000000000000a2",
          parentId: "00000000000000a1",
          error: "refused",
          attributes: { "server.address": "cart" },
        },
        {
          service: "old",
          name: "zipkin",
          at: NOW - 4_000,
          ms: 1,
          traceId: `${"0".repeat(16)}00000000000000b1`,
          spanId: "00000000000000b1",
        },
      ]),
    );
  }, 60_000);
  afterAll(async () => {
    await under.close();
    await runtime.dispose();
    removeFolder(folder);
  });

  itWith(["chdb"], "answers each question", async () => {
    const bodies = async (...params: readonly (readonly [string, string])[]) => {
      const { status, body } = await get("/logs", params);
      expect(status).toBe(200);
      return (body["rows"] as readonly { readonly body: string }[]).map((row) => row.body);
    };
    expect(await bodies()).toEqual(["slow", "order 2 failed", "order 1 placed"]);
    expect(await bodies(["severity", "warning"])).toEqual(["slow", "order 2 failed"]);
    expect(await bodies(["service", "web"], ["service", "cart"], ["q", "order -placed"])).toEqual(["order 2 failed"]);
    expect(await bodies(["attr", "a=1"])).toEqual(["order 1 placed"]);
    expect(await bodies(["attr", "a!=1"], ["attr", "service.name!=web"])).toEqual(["order 2 failed"]);
    expect(await bodies(["traceId", ID.toUpperCase()])).toEqual(["order 2 failed"]);
    expect(await bodies(["from", String(NOW - 2_500)], ["to", String(NOW - 1_500)])).toEqual(["order 2 failed"]);
    const first = await get("/logs", [["limit", "2"]]);
    expect(await bodies(["limit", "2"], ["cursor", String(first.body["next"])])).toEqual(["order 1 placed"]);
    const { body: grouped } = await get("/logs/patterns", [["service", "cart"]]);
    expect(grouped).toMatchObject({ total: 2, found: 2 });
    const [group] = grouped["patterns"] as readonly { readonly pattern: string; readonly sample: string }[];
    expect(await bodies(["pattern", group?.pattern ?? ""])).toEqual([group?.sample]);
    expect((await get("/logs/facets")).body).toMatchObject({ total: 3 });
    expect((await get("/logs/histogram", [["steps", "10"]])).body["times"]).not.toHaveLength(0);

    const names = async (...params: readonly (readonly [string, string])[]) =>
      ((await get("/traces", params)).body["rows"] as readonly { readonly name: string }[]).map(({ name }) => name);
    expect(await names()).toEqual(["zipkin", "call", "GET /"]);
    expect(await names(["order", "slowest"])).toEqual(["GET /", "call", "zipkin"]);
    expect(await names(["roots", "true"], ["minMs", "1.5"])).toEqual(["GET /"]);
    expect(await names(["status", "error"])).toEqual(["call"]);
    expect((await get(`/traces/${ID}`)).body).toMatchObject({ traceId: ID, spans: [{ selfMs: 50 }, { peer: "cart" }] });
    expect(((await get("/traces/00000000000000B1")).body as unknown as Trace).spans[0]?.name).toBe("zipkin");
    expect(await get(`/traces/${"f".repeat(32)}`)).toMatchObject({
      status: 404,
      body: { message: `there is no trace ${"f".repeat(32)}` },
    });
    expect((await get("/traces/heatmap")).body).toMatchObject({ total: expect.arrayContaining([1]) });
    expect((await get("/traces/errors")).body).toMatchObject({ failed: 1, causes: [{ message: "refused", share: 1 }] });
    expect((await get("/traces/attributes", [["selectedStatus", "error"]])).body).toMatchObject({
      selected: 1,
      rest: 2,
    });
    expect((await get("/span-edges")).body).toMatchObject({
      edges: [{ service: "web", peer: "cart", total: 1, failed: 1 }],
    });
  });

  const LOG_ROUTES = ["/logs", "/logs/facets", "/logs/histogram", "/logs/patterns"];
  const SPAN_ROUTES = ["/traces", "/traces/heatmap", "/traces/errors", "/traces/attributes"];

  itWith(["chdb"], "says which parameter is wrong, and what it expected", async () => {
    const wrong: readonly (readonly [readonly string[], string, string, RegExp])[] = [
      [
        [...LOG_ROUTES, ...SPAN_ROUTES, "/span-edges"],
        "from",
        "yesterday",
        /^from: expected milliseconds since the epoch$/,
      ],
      [[...LOG_ROUTES, ...SPAN_ROUTES, "/span-edges"], "to", "-1", /^to: expected milliseconds/],
      [[...LOG_ROUTES, ...SPAN_ROUTES, "/span-edges"], "to", "1e300", /^to: expected milliseconds/],
      [
        [...LOG_ROUTES, ...SPAN_ROUTES, "/span-edges"],
        "from",
        String(NOW + 1e9),
        /^from, to: expected from before to$/,
      ],
      [[...LOG_ROUTES, ...SPAN_ROUTES, "/span-edges"], "from", "0", /^from, to: expected at most 35 days$/],
      [[...LOG_ROUTES, ...SPAN_ROUTES], "attr", "nothing", /^attr: expected key=value or key!=value/],
      [[...LOG_ROUTES, ...SPAN_ROUTES], "attr", "=x", /^attr: expected key=value/],
      [[...LOG_ROUTES, ...SPAN_ROUTES], "service", "x".repeat(2_000), /^service: expected at most/],
      [LOG_ROUTES, "severity", "loud", /^severity: expected one of trace, debug, info, warning, error, fatal$/],
      [LOG_ROUTES, "q", 'an "open quote', /^q: expected each " to be closed/],
      [LOG_ROUTES, "traceId", "xyz", /^traceId: expected 32 or 16 hex digits/],
      [LOG_ROUTES, "pattern", "18446744073709551616", /^pattern: expected the number of a pattern$/],
      [["/logs", "/traces"], "cursor", "1-2", /^cursor: expected the next of a page$/],
      [
        ["/logs", "/traces", "/logs/patterns", "/traces/errors"],
        "limit",
        "0",
        /^limit: expected a whole number from 1 to \d+$/,
      ],
      [["/logs", "/traces", "/logs/patterns", "/traces/errors"], "limit", "1.5", /^limit: expected a whole number/],
      [
        ["/logs/histogram", "/logs/patterns", "/traces/heatmap"],
        "steps",
        "501",
        /^steps: expected a whole number from 1 to 500$/,
      ],
      [
        SPAN_ROUTES,
        "kind",
        "sideways",
        /^kind: expected one of unspecified, internal, server, client, producer, consumer$/,
      ],
      [SPAN_ROUTES, "status", "bad", /^status: expected one of unset, ok, error$/],
      [SPAN_ROUTES, "minMs", "fast", /^minMs: expected a number of milliseconds$/],
      [SPAN_ROUTES, "maxMs", "NaN", /^maxMs: expected a number of milliseconds$/],
      [SPAN_ROUTES, "roots", "1", /^roots: expected one of true, false$/],
      [["/traces"], "order", "best", /^order: expected one of newest, slowest$/],
      [["/traces/attributes"], "selectedStatus", "x", /^selectedStatus: expected one of/],
      [["/traces/attributes"], "selectedFrom", "", /selectedStatus: expected one of them$/],
      [["/traces/nonsense"], "", "", /^id: expected 32 or 16 hex digits/],
    ];
    for (const [routes, name, value, message] of wrong)
      for (const route of routes) {
        const { status, body } = await get(route, name === "" ? [] : [[name, value]]);
        expect({ status, ...body }, `${route} ${name}=${value}`).toMatchObject({
          status: 400,
          message: expect.stringMatching(message),
        });
      }
    const many = await get(
      "/logs",
      Array.from({ length: 21 }, (_, i) => ["attr", `a=${i}`] as const),
    );
    expect(many).toMatchObject({ status: 400, body: { message: "attr: expected at most 20 of it" } });
    // given twice what may be given once
    expect(
      (
        await get("/logs", [
          ["q", "a"],
          ["q", "b"],
        ])
      ).status,
    ).toBe(400);
  });

  itWith(
    ["chdb"],
    "takes every text as a text: nothing in it is run, found or broken",
    async () => {
      const texts = [
        "'",
        "\\",
        "\\'",
        "' OR 1=1 --",
        "') OR 1=1 OR ('",
        '"',
        "`",
        "{x:String}",
        "{from:Int64}",
        "\0",
        "a\0b",
        "/* x",
        "*/ x /*",
        "-- x",
        "# x",
        "; DROP TABLE coroot.logs",
        "$$ x",
        "$heredoc$",
        "\n\t\r\v\f\u0008",
        "\\N",
        "\\x00\\t",
        "%",
        "_",
        "%' OR '%",
        "[]",
        "['a','b']",
        "](",
        "\ud800",
        "\u{1f4a5}\u202e",
        "NULL",
        "SETTINGS max_execution_time=0",
      ];
      const places: readonly (readonly [readonly string[], string, (text: string) => string])[] = [
        [[...LOG_ROUTES, ...SPAN_ROUTES, "/span-edges"], "service", (text) => text],
        [["/logs", "/traces", "/traces/attributes"], "attr", (text) => `${text.replaceAll("=", "")}x=1`],
        [["/logs", "/traces", "/traces/attributes"], "attr", (text) => `a=${text}`],
        [["/logs", "/logs/facets"], "q", (text) => text],
        [["/logs", "/logs/patterns"], "q", (text) => `"nothing like ${text.replaceAll(/["\\]/g, "\\$&")}"`],
        [["/traces", "/traces/heatmap"], "name", (text) => text],
        // these have a form, and are refused
        [["/logs", "/traces"], "cursor", (text) => text],
        [["/logs"], "traceId", (text) => text],
        [["/logs", "/logs/patterns"], "pattern", (text) => text],
        [["/logs"], "severity", (text) => text],
        [["/traces"], "kind", (text) => text],
        [["/traces"], "status", (text) => text],
        [["/traces/attributes"], "selectedStatus", (text) => text],
      ];
      const more = (route: string) => (route === "/traces/attributes" ? [["selectedStatus", "error"] as const] : []);
      const empty = (route: string, body: Answer["body"]): boolean =>
        [body["rows"], body["patterns"], body["causes"], body["edges"], body["at"], body["services"]].every(
          (list) => list === undefined || (Array.isArray(list) && list.length === 0),
        ) &&
        (route !== "/logs/histogram" ||
          Object.values(body["counts"] as Record<string, number[]>)
            .flat()
            .every((n) => n === 0)) &&
        (route !== "/traces/attributes" || (body["selected"] === 0 && body["rest"] === 0));
      for (const [routes, name, of] of places)
        for (const route of routes)
          for (const text of texts) {
            const given = name === "selectedStatus" ? [] : more(route);
            const { status, body } = await get(route, [...given, [name, of(text)]]);
            const what = `${route} ${name}=${JSON.stringify(of(text))} ${JSON.stringify(body).slice(0, 300)}`;
            expect([200, 400], what).toContain(status);
            if (status === 400) expect(body["message"], what).toMatch(new RegExp(`^${name}: expected `));
            // of what stands in the lines and spans are a quote, % and _ nowhere
            else if (!(name === "q" && /^[*\s]*$/.test(of(text)))) expect(empty(route, body), what).toBe(true);
          }
      const { body } = await get("/logs");
      expect(body["rows"]).toHaveLength(3);
      expect(await get("/traces/x%27%20OR%201=1")).toMatchObject({ status: 400 });
    },
    300_000,
  );

  itWith(
    ["chdb"],
    "stops the engine's query when the asker goes away",
    async () => {
      const client = await stockClient(runtime as unknown as TestStore);
      // a search through text that no index can shorten and that takes the engine many seconds
      for (let i = 0; i < 8; i++)
        await client.command({
          query: `INSERT INTO coroot.logs (ts, service, severity, body)
          SELECT now64(9), 'big', 9, concat(toString(number), repeat(' lorem ipsum dolor sit amet', 100)) FROM numbers(60000)`,
        });
      const running = async (): Promise<number> => {
        const result = await client.query({
          query:
            "SELECT count() AS n FROM system.processes WHERE query LIKE '%lower(body)%' AND query NOT LIKE '%system.processes%'",
          format: "JSONEachRow",
        });
        return Number(((await result.json<{ n: string }>())[0] ?? { n: 0 }).n);
      };
      const asked = new AbortController();
      const hard = Array.from({ length: 8 }, (_, i) => `l*r*m*d*t*l*z${i}*q`).join(" ");
      const params = [
        ["service", "big"],
        ["to", String(Date.now() + 60_000)],
        ["q", `-${hard.split(" ").join(" -")}`],
      ] as const;
      const answer = fetch(address("/logs/histogram", params), { signal: asked.signal });
      let early = "";
      const said = answer.then(
        async (response) => (early = `${response.status} ${await response.text()}`),
        (error: unknown) => (early = String(error)),
      );
      await Effect.runPromise(until(Effect.promise(running), (n) => n > 0 || early !== ""));
      expect(early).toBe("");
      const before = performance.now();
      asked.abort();
      await said;
      expect(early).toMatch(/abort/i);
      await Effect.runPromise(until(Effect.promise(running), (n) => n === 0));
      expect(performance.now() - before).toBeLessThan(5_000);
      await client.close();
    },
    120_000,
  );

  itWith(["chdb"], "says when the store is away", async () => {
    const away = await startServer(makeWorld());
    for (const path of ["/logs", "/logs/facets", `/traces/${ID}`, "/span-edges"]) {
      const response = await fetch(`${away.server.url}/api${path}`);
      expect({ status: response.status, ...((await response.json()) as object) }).toMatchObject({
        status: 503,
        message: "the store is starting",
      });
    }
    await away.close();
  });
});
