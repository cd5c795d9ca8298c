import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Effect, SubscriptionRef } from "effect";
import { expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { addColumnSql } from "../../../schemas/ddl.ts";
import { TABLES } from "../../../schemas/tables.ts";
import { Store } from "../../../runtime/store/Store.ts";
import {
  COMMAND,
  freshFolder,
  makeStore,
  processState,
  removeFolder,
  startRaw,
  stateWhere,
  stockClient,
  whenUp,
} from "./harness.ts";

describeWith(["chdb"], "the store process", () => {
  itWith(["chdb"], "says why it cannot start: directory in use, or not writable", async () => {
    const data = freshFolder();
    const first = startRaw(data);
    expect(await first.firstLine).toMatchObject({ ready: true });
    const second = startRaw(data);
    expect(await second.firstLine).toEqual({
      ready: false,
      reason: "locked",
      message: `data directory ${data} is in use by another store process (pid ${first.process.pid})`,
    });
    expect(await second.ended).toBe(1);
    writeFileSync(join(data, "file"), "");
    const third = startRaw(join(data, "file"));
    expect(await third.firstLine).toMatchObject({
      ready: false,
      reason: "not_writable",
      message: expect.stringContaining(`data directory ${join(data, "file")} cannot be written`) as string,
    });
    expect(await third.ended).toBe(1);
    first.process.kill("SIGTERM");
    expect(await first.ended).toBe(0);
    removeFolder(data);
  });

  itWith(["chdb"], "ends when its parent is killed", async () => {
    const data = freshFolder();
    const script = `const { spawn } = require("node:child_process");
      const child = spawn(process.argv[1], process.argv.slice(2), { stdio: ["pipe", "pipe", "ignore"] });
      child.stdout.pipe(process.stdout); setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ["-e", script, ...COMMAND, "--data", data], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [line] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
    const { pid } = JSON.parse(line) as { pid: number };
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    parent.kill("SIGKILL");
    await expect.poll(() => existsSync(`/proc/${pid}`), { timeout: 10_000 }).toBe(false);
    removeFolder(data);
  });

  itWith(["chdb"], "is replaced when it hangs", async () => {
    const data = freshFolder();
    const runtime = makeStore(data, {}, { watch: { everyMs: 100, withinMs: 500, misses: 2 } });
    await runtime.runPromise(whenUp);
    const { pid: hung } = await runtime.runPromise(processState);
    if (hung === null) throw new Error("no child");
    process.kill(hung, "SIGSTOP");
    const { message, restarts } = await runtime.runPromise(stateWhere(({ status }) => status === "down"));
    expect([message, restarts]).toEqual(["the store process did not answer 2 pings in a row", 1]);
    await runtime.runPromise(stateWhere(({ status, pid }) => status === "up" && pid !== hung));
    expect(existsSync(`/proc/${hung}`)).toBe(false);
    await runtime.dispose();
    removeFolder(data);
  });

  itWith(["chdb"], "uses a ClickHouse of the user's instead of a child", async () => {
    const data = freshFolder();
    const theirs = makeStore(data);
    await theirs.runPromise(whenUp);
    const { endpoint } = await theirs.runPromise(processState);
    if (endpoint === null) throw new Error("no endpoint");
    const ours = makeStore("/nonexistent", {}, { command: ["/nonexistent"], external: endpoint });
    await ours.runPromise(whenUp);
    const rows = await ours.runPromise(
      Effect.flatMap(Store, ({ query }) => query("SELECT count() AS n FROM coroot.samples")),
    );
    expect(rows).toEqual([{ n: 0 }]);
    expect((await ours.runPromise(processState)).pid).toBeNull();
    await ours.dispose();
    await theirs.dispose();
    removeFolder(data);
  });

  itWith(
    ["chdb"],
    "extends tables of an older version, adjusts retention, and refuses a column of another type",
    async () => {
      const data = freshFolder();
      const first = makeStore(data);
      await first.runPromise(whenUp);
      const client = await stockClient(first);
      await client.command({ query: "ALTER TABLE coroot.events DROP COLUMN json" });
      await client.command({ query: "ALTER TABLE coroot.samples MODIFY TTL toDateTime(ts) + INTERVAL 2 DAY" });
      await first.runPromise(Effect.flatMap(Store, ({ migrate }) => migrate));
      const definition = async (table: string): Promise<string> =>
        (await client.query({ query: `SHOW CREATE TABLE coroot.${table}`, format: "TabSeparatedRaw" })).text();
      expect(await definition("events")).toContain("`json` String");
      expect(await definition("samples")).toContain(`toIntervalDay(${TABLES.samples.ttlDays})`);

      await client.command({ query: "ALTER TABLE coroot.events DROP COLUMN json" });
      for (const query of addColumnSql({ database: "coroot" }, "events", { name: "json", type: "UInt8" }))
        await client.command({ query });
      const failure = await first.runPromise(Effect.flip(Effect.flatMap(Store, ({ migrate }) => migrate)));
      expect(failure.reason).toBe("column coroot.events.json has type UInt8, expected String");
      await client.close();
      await first.dispose();

      const second = makeStore(data);
      await second.runPromise(stateWhere(({ status }) => status === "up"));
      const message = await second.runPromise(
        Effect.gen(function* () {
          const { state } = yield* Store;
          let seen = yield* SubscriptionRef.get(state);
          while (seen.status === "starting") {
            yield* Effect.sleep("20 millis");
            seen = yield* SubscriptionRef.get(state);
          }
          return `${seen.status}: ${seen.message}`;
        }).pipe(Effect.timeout("10 seconds")),
      );
      expect(message).toBe("down: migrate: column coroot.events.json has type UInt8, expected String");
      await second.dispose();
      removeFolder(data);
    },
  );
});
