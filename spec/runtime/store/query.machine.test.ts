import { Effect, Either } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { readQuery } from "../../../runtime/store/ReadQuery.ts";
import { Store } from "../../../runtime/store/Store.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { freshFolder, makeStore, removeFolder, until, whenUp, type TestStore } from "./harness.ts";

describeWith(["chdb"], "a query that a person typed", () => {
  let folder: string;
  let runtime: TestStore;
  const run = (sql: string, params: Record<string, string> = {}, rows = 100) =>
    runtime.runPromise(
      Effect.either(Effect.flatMap(Store, (store) => readQuery(store, sql, params, rows))).pipe(
        Effect.map((answer) => (Either.isRight(answer) ? answer.right : answer.left.message)),
      ),
    );

  beforeAll(async () => {
    folder = freshFolder();
    runtime = makeStore(folder);
    await runtime.runPromise(whenUp);
    const event = (service: string, i: number) => ({
      ts: Date.now() - i,
      service,
      kind: "start",
      text: "",
      json: "{}",
    });
    await runtime.runPromise(
      Effect.gen(function* () {
        const writer = yield* Writer;
        yield* writer.rows("events", [event("it's", 1), event("b", 2), event("b", 3)]);
        const store = yield* Store;
        yield* until(store.query<{ n: number }>("SELECT count() AS n FROM coroot.events"), ([row]) => row?.n === 3);
      }),
    );
  }, 60_000);
  afterAll(async () => {
    await runtime.dispose();
    removeFolder(folder);
  });

  itWith(["chdb"], "reads tables of ours without naming the database, with values bound", async () => {
    const sql = "SELECT service, count() AS n FROM events WHERE service = {s:String} GROUP BY service -- that one";
    expect(await run(sql, { s: "it's" })).toEqual({
      columns: [
        { name: "service", type: "LowCardinality(String)" },
        { name: "n", type: "UInt64" },
      ],
      rows: [["it's", "1"]],
      truncated: false,
    });
    const some = "WITH t AS (SELECT kind FROM coroot.events) SELECT kind FROM t UNION ALL SELECT 'start' LIMIT 9";
    expect(await run(some, {}, 2)).toMatchObject({ rows: [["start"], ["start"]], truncated: true });
    const own = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name = 'events'";
    expect(await run(own)).toMatchObject({ rows: [["events"]], truncated: false });
    expect(await run("SELECT 18446744073709551615 AS n, [1, 2] AS list, NULL AS nothing")).toMatchObject({
      rows: [["18446744073709551615", [1, 2], null]],
    });
  });

  itWith(["chdb"], "runs nothing that writes, reaches out, or lifts its bounds", async () => {
    const refused: Record<string, RegExp> = {
      "DROP TABLE events": /one SELECT/,
      "INSERT INTO events SELECT * FROM events": /one SELECT/,
      "SELECT 1; DROP TABLE events": /one SELECT/,
      "SELECT 1) UNION ALL (SELECT 1": /brackets/,
      "SELECT 1) INTO OUTFILE '/tmp/coroot-out' /*": /brackets/,
      "SELECT * FROM events FORMAT CSV": /one SELECT/,
      "SELECT * FROM events INTO OUTFILE '/tmp/coroot-out'": /one SELECT/,
      "SELECT * FROM events SETTINGS max_execution_time = 0": /SETTINGS/,
      "SELECT * FROM (SELECT * FROM events SETTINGS max_result_rows = 0)": /SETTINGS/,
      "SELECT * FROM file('/etc/passwd', 'LineAsString')": /function file/,
      "SELECT file('/etc/passwd')": /function file/,
      "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')": /function url/,
      "SELECT * FROM remote('127.0.0.1', system.one)": /function remote/,
      "SELECT * FROM merge('system', '.*')": /function merge/,
      "SELECT * FROM '/etc/passwd'": /table \/etc\/passwd|syntax/i,
      "SELECT * FROM system.processes": /table system.processes/,
      "SELECT (SELECT count() FROM system.users)": /table system.users/,
      "SELECT sleep(3)": /function sleep/,
      "SELECT 1, 1": /two columns/,
    };
    for (const [sql, why] of Object.entries(refused)) {
      const answer = await run(sql);
      expect(answer, sql).toEqual(expect.stringMatching(why));
    }
    expect(await run("SELECT count() AS n FROM events")).toMatchObject({ rows: [["3"]] });
  });
});
