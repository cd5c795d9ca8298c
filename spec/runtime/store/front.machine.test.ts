import { Readable } from "node:stream";
import type { ClickHouseClient } from "@clickhouse/client";
import { array, assert, asyncProperty, string } from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeWith } from "../../capabilities.ts";
import { freshFolder, makeStore, removeFolder, stockClient, whenUp, type TestStore } from "./harness.ts";

describeWith(["chdb"], "the embedded store speaks ClickHouse's HTTP to the stock client", () => {
  const data = freshFolder();
  let runtime: TestStore;
  let client: ClickHouseClient;
  beforeAll(async () => {
    runtime = makeStore(data);
    await runtime.runPromise(whenUp);
    client = await stockClient(runtime);
  });
  afterAll(async () => {
    await client.close();
    await runtime.dispose();
    removeFolder(data);
  });

  const rows = async <T>(query: string, query_params: Record<string, unknown> = {}): Promise<T[]> =>
    (await client.query({ query, query_params, format: "JSONEachRow" })).json<T>();

  const running = async (): Promise<number> =>
    (await rows("SELECT query FROM system.processes WHERE query LIKE '%abandoned *%' AND query NOT LIKE '%processes%'"))
      .length;
  it("answers ping, creates, inserts and selects", async () => {
    expect((await client.ping()).success).toBe(true);
    await client.command({
      query:
        "CREATE TABLE default.t (a UInt32, s String, -- a; b\n m Map(String, String)) ENGINE = MergeTree ORDER BY a",
    });
    const inserted = await client.insert({
      table: "default.t",
      values: [
        { a: 1, s: "it's; \\ \n \u2603", m: { k: "v" } },
        { a: 2, s: "", m: {} },
      ],
      format: "JSONEachRow",
    });
    expect(inserted.summary?.written_rows).toBe("2");
    expect(await rows("SELECT * FROM default.t ORDER BY a; ")).toEqual([
      { a: 1, s: "it's; \\ \n \u2603", m: { k: "v" } },
      { a: 2, s: "", m: {} },
    ]);
  });

  it("takes binary rows byte for byte", async () => {
    await client.command({ query: "CREATE TABLE default.b (v UInt64) ENGINE = MergeTree ORDER BY v" });
    const bytes = Buffer.alloc(8 * 70_000);
    for (let i = 0; i < 70_000; i++) bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(i) * 0x9e3779b97f4a7c15n), i * 8);
    const values = Readable.from([bytes], { objectMode: false });
    const { stream } = await client.exec({ query: "INSERT INTO default.b (v) FORMAT RowBinary", values });
    stream.resume();
    const expected = Array.from({ length: 70_000 }, (_, i) =>
      BigInt.asUintN(64, BigInt(i) * 0x9e3779b97f4a7c15n),
    ).reduce((a, b) => a ^ b);
    expect(await rows("SELECT count() AS n, toString(groupBitXor(v)) AS x FROM default.b")).toEqual([
      { n: 70000, x: String(expected) },
    ]);
  });

  it("stores an insert that is repeated with its token once", async () => {
    await client.command({
      query:
        "CREATE TABLE default.d (a UInt32) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100",
    });
    const insert = (token: string) =>
      client.insert({
        table: "default.d",
        values: [{ a: 1 }, { a: 2 }],
        format: "JSONEachRow",
        clickhouse_settings: { insert_deduplication_token: token },
      });
    for (const token of ["x", "x", "y", "x"]) await insert(token);
    expect(await rows("SELECT count() AS n FROM default.d")).toEqual([{ n: 4 }]);
  });

  it("binds any text, array, map and null exactly, and never as SQL", async () => {
    const any = string({ unit: "binary", maxLength: 40 }).filter(
      (text) => Buffer.from(text).toString() === text && !text.includes("\0"),
    );
    await assert(
      asyncProperty(any, array(any, { maxLength: 4 }), async (text, list) => {
        const [row] = await rows<{ t: string; l: string[]; m: Record<string, string>; n: string | null }>(
          "SELECT {t:String} AS t, {l:Array(String)} AS l, {m:Map(String, String)} AS m, {n:Nullable(String)} AS n",
          { t: text, l: list, m: { [`k${text}`]: text }, n: null },
        );
        expect(row).toEqual({ t: text, l: list, m: { [`k${text}`]: text }, n: null });
      }),
      { numRuns: 40, examples: [["'); DROP TABLE default.t; --", ["', 1) OR 1=1 --", "\\'", "{t:String}"]]] },
    );
    expect(await rows("EXISTS TABLE default.t")).toEqual([{ result: 1 }]);
  });

  it("takes parameters that do not fit into a URL", async () => {
    const list = Array.from({ length: 20_000 }, (_, i) => `service-${i}`);
    const result = await client.query({
      query: "SELECT length({l:Array(String)}) AS n, {l:Array(String)}[20000] AS last",
      query_params: { l: list },
      use_multipart_params: true,
      format: "JSONEachRow",
    });
    expect(await result.json()).toEqual([{ n: 20000, last: "service-19999" }]);
  });

  it("does not lend one query's parameter to another", async () => {
    await Promise.all([1, 2, 3, 4].map(() => rows("SELECT {leak:String} AS v", { leak: "secret" })));
    await expect(rows("SELECT {leak:String} AS v")).rejects.toMatchObject({ code: "456" });
  });

  it.each([
    ["SELECT nosuch FROM default.t", "47", "UNKNOWN_IDENTIFIER"],
    ["SELECT * FROM default.nosuch", "60", "UNKNOWN_TABLE"],
    ["SELECT * FRO default.t WHERE", "62", "SYNTAX_ERROR"],
    ["SELECT 1; DROP TABLE default.t", "62", "SYNTAX_ERROR"],
    ["SET max_threads = 1", "48", "NOT_IMPLEMENTED"],
    ["SELECT throwIf(1)", "395", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"],
  ])("answers %s with ClickHouse's code %s", async (query, code, type) => {
    await expect(rows(query)).rejects.toMatchObject({ code, type });
    expect(await rows("EXISTS TABLE default.t")).toEqual([{ result: 1 }]);
  });

  it("refuses what a reading query may not do, too much result, too long and too large", async () => {
    const read = (query: string, clickhouse_settings: Record<string, string | number>) =>
      client.query({ query, clickhouse_settings, format: "JSONEachRow" }).then((result) => result.json());
    await expect(read("SELECT * FROM file('/etc/passwd', 'LineAsString')", {})).rejects.toThrow();
    await expect(read("SELECT number FROM numbers(1000)", { max_result_rows: "10" })).rejects.toMatchObject({
      code: "396",
    });
    await expect(
      read("SELECT sum(sleepEachRow(0.05)) FROM numbers(400)", { max_execution_time: 1, max_block_size: "1" }),
    ).rejects.toMatchObject({ code: "159" });
    await expect(
      read("SELECT groupArray(number) FROM numbers(10000000)", { max_memory_usage: "20000000" }),
    ).rejects.toMatchObject({ code: "241" });
    await expect(
      client.insert({
        table: "default.t",
        format: "JSONEachRow",
        values: Array.from({ length: 100 }, () => ({ a: 1, s: "x".repeat(1024 * 1024), m: {} })),
      }),
    ).rejects.toMatchObject({ code: "307" });
  });

  it("refuses a wrong key and a missing one on every route", async () => {
    const stranger = await stockClient(runtime, "guess");
    await expect(stranger.query({ query: "SELECT 1" })).rejects.toMatchObject({
      code: "516",
      type: "AUTHENTICATION_FAILED",
    });
    expect((await stranger.ping()).success).toBe(false);
    await stranger.close();
  });

  it("ends the query of a client that went away", async () => {
    const gone = new AbortController();
    const query = client.query({
      query: "SELECT sum(sleepEachRow(0.1)) FROM numbers(600) /* abandoned */",
      clickhouse_settings: { max_block_size: "1" },
      abort_signal: gone.signal,
    });
    await expect.poll(running, { timeout: 5_000 }).toBe(1);
    gone.abort();
    await expect(query).rejects.toThrow("aborted");
    await expect.poll(running, { timeout: 5_000 }).toBe(0);
  });

  it("serves readers side by side", async () => {
    const started = performance.now();
    await Promise.all([1, 2, 3].map(() => rows("SELECT sleep(1)")));
    expect(performance.now() - started).toBeLessThan(2_500);
  });
});
