/** The journal of calls: what one life noted the next one knows, whatever the file went through. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Effect, Logger, type Scope } from "effect";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openJournal, type Journal } from "../../../runtime/remote-write/Journal.ts";

const MOST = 500;
let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "coroot-journal-"));
  path = join(folder, "journal");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const quiet = Logger.replace(Logger.defaultLogger, Logger.none);
/** Opens, uses and closes it. */
const life = <A>(use: (journal: Journal) => Effect.Effect<A, never, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Effect.scoped(Effect.flatMap(openJournal(path, MOST), use)).pipe(Effect.provide(quiet)));
const look = () => life((journal) => Effect.succeed(journal));

const key = (n: number): string => {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(n, 5);
  return bytes.toString("base64");
};

it("a later life knows what an earlier one noted, and calls itself otherwise", async () => {
  const named = { epoch: 7, first: 3, count: 2 };
  const first = await life((journal) => Effect.as(journal.add(key(1), named), journal));
  const second = await life((journal) => Effect.as(journal.add(key(2), { ...named, first: 5 }), journal));
  expect([...second.remembered]).toEqual([[key(1), named]]);
  expect([second.agent, second.epoch === first.epoch]).toEqual([first.agent, false]);
  expect([...(await look()).remembered.keys()]).toEqual([key(1), key(2)]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

it("a record that is cut off costs only itself; what is no journal is begun anew", async () => {
  await life((journal) =>
    Effect.zipRight(
      journal.add(key(1), { epoch: 1, first: 0, count: 1 }),
      journal.add(key(2), { epoch: 1, first: 1, count: 1 }),
    ),
  );
  truncateSync(path, statSync(path).size - 5);
  expect([...(await look()).remembered.keys()]).toEqual([key(1)]);
  // what comes after it is read in its place
  await life((journal) => journal.add(key(3), { epoch: 2, first: 0, count: 1 }));
  expect([...(await look()).remembered.keys()]).toEqual([key(1), key(3)]);
  const { agent } = await look();
  writeFileSync(path, "nonsense");
  const anew = await look();
  expect([anew.remembered.size, anew.agent === agent]).toEqual([0, false]);
});

it("stays bounded, and keeps the latest across its two files", async () => {
  await life((journal) =>
    Effect.forEach(
      Array.from({ length: MOST + 100 }, (_, n) => n),
      (n) => journal.add(key(n), { epoch: 1, first: n, count: 1 }),
      { concurrency: 64, discard: true },
    ),
  );
  const { remembered } = await look();
  expect(remembered.size).toBe(MOST);
  expect(remembered.get(key(MOST + 99))?.first).toBe(MOST + 99);
  expect(remembered.has(key(0))).toBe(false);
  expect(readFileSync(path).length).toBeLessThan((MOST + 3) * 32);
});

it("calls go on where it cannot be written", async () => {
  appendFileSync(join(folder, "file"), "");
  path = join(folder, "file", "journal");
  const journal = await life((one) => Effect.as(one.add(key(1), { epoch: 1, first: 0, count: 1 }), one));
  expect([journal.remembered.size, journal.agent.startsWith("doors/")]).toEqual([0, true]);
});
