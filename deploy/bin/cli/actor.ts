/**
 * `coroot actor …`: the actors of a running server and its replicas, an operator's hand in them (with the admin key), and
 * the replay of a recording, which needs no server.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { askJson, askRows, type Fields, fieldsOf, isFields, listOf, numberOf, serverAddress, textOf } from "./ask.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { readSettings } from "./settings.ts";
import { ago, type Column, number, table } from "./table.ts";

const print = (text: string): void => void process.stdout.write(`${text}\n`);
const wrong = (message: string): CommandError => new CommandError(EXIT.usage, message, "see: coroot actor --help");

const actorColumns = (now: number): readonly Column<Fields>[] => [
  { title: "ACTOR", cell: (row) => textOf(row, "path") },
  { title: "KIND", cell: (row) => textOf(row, "kind") },
  { title: "NODE", cell: (row) => textOf(row, "node") },
  { title: "STATE", cell: (row) => textOf(row, "state") },
  { title: "AGE", cell: (row) => ago(numberOf(row, "startedAt"), now), right: true },
  { title: "MAILBOX", cell: (row) => textOf(row, "mailbox"), right: true },
  { title: "IN/S", cell: (row) => number(numberOf(row, "inPerSecond")), right: true },
  { title: "P95 MS", cell: (row) => number(numberOf(row, "handleP95Ms"), 2), right: true },
  { title: "SHED", cell: (row) => textOf(row, "shed"), right: true },
  { title: "DEAD", cell: (row) => textOf(row, "deadLetters"), right: true },
  { title: "RESTARTS", cell: (row) => textOf(row, "restarts"), right: true },
  { title: "LAST ERROR", cell: (row) => textOf(row, "lastError") },
];

const time = (row: Fields): string => new Date(numberOf(row, "at") ?? 0).toISOString().slice(11, 23);

const hopColumns: readonly Column<Fields>[] = [
  { title: "AT", cell: time },
  { title: "NODE", cell: (row) => textOf(row, "node") },
  { title: "ACTOR", cell: (row) => textOf(row, "path") },
  { title: "MESSAGE", cell: (row) => textOf(row, "type") },
  { title: "FROM", cell: (row) => textOf(row, "from") },
  { title: "WAITED MS", cell: (row) => number(numberOf(row, "waitMs"), 2), right: true },
  { title: "HANDLED MS", cell: (row) => number(numberOf(row, "handleMs"), 2), right: true },
  { title: "ERROR", cell: (row) => textOf(row, "error") },
];

const messageColumns: readonly Column<Fields>[] = [
  { title: "AT", cell: time },
  { title: "MESSAGE", cell: (row) => textOf(row, "type") },
  { title: "FROM", cell: (row) => textOf(row, "from") },
  { title: "TRACE", cell: (row) => textOf(row, "trace") },
  { title: "WAITED MS", cell: (row) => number(numberOf(row, "waitMs"), 2), right: true },
  { title: "HANDLED MS", cell: (row) => number(numberOf(row, "handleMs"), 2), right: true },
  { title: "ERROR", cell: (row) => textOf(row, "error") },
];

const letterColumns: readonly Column<Fields>[] = [
  { title: "AT", cell: time },
  { title: "NODE", cell: (row) => textOf(row, "node") },
  { title: "TO", cell: (row) => textOf(row, "to") },
  { title: "MESSAGE", cell: (row) => textOf(row, "type") },
  { title: "FROM", cell: (row) => textOf(row, "from") },
  { title: "REASON", cell: (row) => textOf(row, "reason") },
];

const auditColumns: readonly Column<Fields>[] = [
  { title: "AT", cell: (row) => new Date(numberOf(row, "at") ?? 0).toISOString() },
  { title: "WHO", cell: (row) => textOf(row, "who") },
  { title: "ACTION", cell: (row) => textOf(row, "action") },
  { title: "TARGET", cell: (row) => textOf(row, "target") },
  { title: "OUTCOME", cell: (row) => textOf(row, "outcome") },
];

const printRows = (
  values: Values,
  columns: readonly Column<Fields>[],
  rows: readonly Fields[],
  none: string,
): number => {
  if (values.on("json")) for (const row of rows) print(JSON.stringify(row));
  else print(rows.length === 0 ? none : table(columns, rows));
  return EXIT.ok;
};

/** Actors are measured only while somebody looks: rates and messages are there at a second look, a second later. */
const lookTwice = async <A>(look: () => Promise<A>): Promise<A> => {
  await look();
  await wait(SECOND_LOOK_MS);
  return look();
};
const SECOND_LOOK_MS = 1_100;

const list = async (values: Values): Promise<number> => {
  const server = serverAddress(values.text("server"));
  const answer = await lookTwice(() => askRows(server, "/api/actors"));
  const kind = values.text("kind");
  const rows = answer.rows.filter((row) => kind === undefined || textOf(row, "kind") === kind);
  return printRows(
    values,
    actorColumns(answer.nowMs),
    rows,
    kind === undefined ? "no actor" : `no actor of kind ${kind}`,
  );
};

const show = async (values: Values, path: string): Promise<number> => {
  const server = serverAddress(values.text("server"));
  const answer = await lookTwice(() => askJson(server, `/api/actor?path=${encodeURIComponent(path)}`));
  const entries = isFields(answer) ? fieldsOf(answer, "entries") : {};
  if (values.on("json")) {
    print(JSON.stringify(entries));
    return EXIT.ok;
  }
  const row = fieldsOf(entries, "row");
  const now = isFields(answer) ? (numberOf(answer, "nowMs") ?? 0) : 0;
  const count = (name: string): string => textOf(row, name);
  const parent = textOf(row, "parent");
  print(`${textOf(row, "path")} (${count("kind")}) on ${count("node")}${parent === "" ? "" : `, child of ${parent}`}`);
  print(`${count("state")}, ${ago(numberOf(row, "startedAt"), now)} old, state of ${count("stateBytes")} bytes`);
  print(
    `mailbox ${count("mailbox")} of ${count("mailboxBound")}, handled ${count("handled")}, merged ${count("merged")}, shed ${count("shed")}, restarts ${count("restarts")}, dead letters ${count("deadLetters")}`,
  );
  print(
    `${number(numberOf(row, "inPerSecond"))}/s in, ${number(numberOf(row, "outPerSecond"))}/s out, p95 waited ${number(numberOf(row, "mailboxWaitP95Ms"), 2)} ms, handled in ${number(numberOf(row, "handleP95Ms"), 2)} ms`,
  );
  if (textOf(row, "lastError") !== "") print(`last error: ${textOf(row, "lastError")}`);
  print(`\n${JSON.stringify(entries["state"], null, 2)}\n`);
  return printRows(values, messageColumns, listOf(entries, "recent"), "no message since it is being looked at");
};

const inTopic = async (values: Values, path: string, entry: string): Promise<readonly Fields[]> => {
  const answer = await askJson(serverAddress(values.text("server")), path);
  const entries = isFields(answer) ? fieldsOf(answer, "entries") : {};
  return listOf(entries, entry);
};

/** The answer of a request that needs the admin key. */
const asAdmin = async (values: Values, path: string, body?: object): Promise<unknown> => {
  const settings = await readSettings(values);
  const file = values.text("admin-key") ?? join(settings.data, "admin.key");
  const key = await readFile(file, "utf8").catch((error: unknown) => {
    throw new CommandError(
      EXIT.failure,
      `the admin key cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      "run it where the server runs, as its user, or name the file with --admin-key FILE",
    );
  });
  const server = serverAddress(values.text("server"));
  return askJson(server, path, {
    headers: { authorization: `Bearer ${key.trim()}` },
    ...(body === undefined ? {} : { method: "POST", body }),
  });
};

const replayFile = async (values: Values, file: string): Promise<number> => {
  const { parse, RecordingError } = await import("../../../runtime/actor/recording/format.ts");
  const { replay } = await import("../../../runtime/actor/recording/replay.ts");
  const { maskSecrets } = await import("../../../runtime/actor/mask.ts");
  const { behaviorOf } = await import("../../../actors/guardian.ts");
  const bytes = await readFile(file).catch((error: unknown) => {
    throw new CommandError(EXIT.failure, error instanceof Error ? error.message : String(error), "");
  });
  const until = values.text("until");
  const untilMs = until === undefined ? undefined : /^\d+$/.test(until) ? Number(until) : Date.parse(until);
  if (untilMs !== undefined && Number.isNaN(untilMs))
    throw wrong(`--until takes a time such as 2026-01-31T12:00:00Z or milliseconds, not "${until}"`);
  try {
    const recording = parse(bytes);
    const behavior = behaviorOf(recording.header.kind);
    if (behavior === undefined)
      throw new RecordingError(`this version knows no actors of kind ${recording.header.kind}`);
    const replayed = replay(behavior, recording, {
      ...(untilMs === undefined ? {} : { until: untilMs }),
      ...(values.on("effects")
        ? {
            onStep: (at, type, effects, failed) => {
              for (const effect of effects)
                print(JSON.stringify({ at: new Date(at).toISOString(), told: type, effect: maskSecrets(effect) }));
              if (failed) print(JSON.stringify({ at: new Date(at).toISOString(), told: type, failed }));
            },
          }
        : {}),
    });
    const { path, kind, version } = recording.header;
    const state = maskSecrets(replayed.state);
    if (values.on("json")) print(JSON.stringify({ path, kind, version, ...replayed, state }));
    else {
      print(JSON.stringify(state, null, 2));
      print(`${path} (${kind}, recorded by ${version}): ${replayed.messages} messages, ${replayed.restarts} restarts`);
      print(
        replayed.differsAt === null
          ? `equal to the recorded states at all ${replayed.digests} digests`
          : `DIFFERS from the recorded state after message ${replayed.differsAt}`,
      );
      print(replayed.end === null ? "the recording breaks off" : `the recording ends: ${replayed.end}`);
    }
    return replayed.differsAt === null ? EXIT.ok : EXIT.failure;
  } catch (error) {
    if (!(error instanceof RecordingError)) throw error;
    throw new CommandError(EXIT.failure, `${file}: ${error.message}`, "");
  }
};

const HANDS = ["pause", "resume", "drain", "restart"];

export const actor = async (values: Values): Promise<number> => {
  const [what = "list", operand, ...more] = values.operands;
  if (more.length > 0) throw wrong(`actor ${what} takes one argument, not also "${more.join(" ")}"`);
  const needed = (name: string): string => {
    if (operand === undefined) throw wrong(`actor ${what} needs ${name}`);
    return operand;
  };
  switch (what) {
    case "list":
      return list(values);
    case "show":
      return show(values, needed("the path of an actor"));
    case "trace": {
      const id = needed("the number of a trace");
      if (!/^\d+$/.test(id)) throw wrong(`actor trace takes the number of a trace, not "${id}"`);
      return printRows(
        values,
        hopColumns,
        await inTopic(values, `/api/actors/trace?id=${id}`, "hops"),
        "nothing was measured of it: messages are followed only while the console or `actor show` looks, and 5 s after",
      );
    }
    case "dead-letters":
      return printRows(
        values,
        letterColumns,
        await inTopic(values, "/api/actors/dead-letters", "letters"),
        "no dead letters",
      );
    case "dump": {
      const path = `/api/actors/dump?path=${encodeURIComponent(needed("the path of an actor"))}`;
      print(JSON.stringify(await asAdmin(values, path), null, 2));
      return EXIT.ok;
    }
    case "audit": {
      const rows = await asAdmin(values, "/api/audit");
      return printRows(values, auditColumns, Array.isArray(rows) ? rows.filter(isFields) : [], "nothing was done");
    }
    case "replay":
      return replayFile(values, needed("a file of recordings/ in the server's data folder"));
    default: {
      if (!HANDS.includes(what)) throw wrong(`actor has no "${what}"`);
      const path = needed("the path of an actor");
      const answer = await asAdmin(values, "/api/actors/action", { path, action: what });
      print(`${what} ${path}: done on ${isFields(answer) ? textOf(answer, "node") : "?"}`);
      return EXIT.ok;
    }
  }
};
