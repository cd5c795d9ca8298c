/**
 * The demo's entry: the shop alone or with one fault (with a server beside it when none answers), the check of all
 * faults, or a quiet run. Ends with an exit code: 0 as hoped, 1 a wrong verdict or a failure, 2 a wrong argument. Ctrl-C,
 * SIGTERM and every failure clean up all that was made before it ends.
 */
import { createInterface } from "node:readline";
import {
  BadDemoArgument,
  DEFAULT_SERVER,
  DEFAULT_WARMUP_SECONDS,
  demoMode,
  type DemoArgs,
  type FaultName,
} from "./args.ts";
import { runCheck, runQuiet } from "./check.ts";
import { Cleanup } from "./cleanup.ts";
import { now, sleep } from "./clock.ts";
import { makeEnvironment } from "./environment.ts";
import { faultProblem, faults, type EndFault } from "./faults.ts";
import type { LoadSecond } from "./load.ts";
import { ensurePrograms, missingPrograms } from "./packages.ts";
import { plainPlan, shuffledPlan } from "./plan.ts";
import { makeReport, usersLine, type Report } from "./report.ts";
import { ServerClient, startServer } from "./server.ts";
import { serviceOf, startShop, type Shop } from "./shop.ts";
import { formatTable } from "./table.ts";

export type { DemoArgs } from "./args.ts";
export { faultNames } from "./args.ts";
export { packages } from "./packages.ts";

const USERS_LINE_EVERY = 5;

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === "AbortError";

/** Injects the fault; at a terminal, Enter ends it and injects it again, so that the recovery can be watched too. */
const faultByHand = async (
  fault: FaultName,
  shop: Shop,
  cleanup: Cleanup,
  report: Report,
  signal: AbortSignal,
): Promise<void> => {
  const means = faults[fault];
  const role = means.role(shop.environment.plan.shuffled);
  let end: EndFault | null = null;
  const begin = async (): Promise<void> => {
    end = await means.inject(shop, role);
    report.tell(`${fault}: ${means.what(serviceOf(shop, role).name)}`);
  };
  cleanup.add(`fault ${fault}`, async () => end?.());
  await begin();
  if (!process.stdin.isTTY) return;
  const toggle = async (): Promise<void> => {
    if (end === null) return begin();
    await end();
    end = null;
    report.tell(`${fault} is over; Enter injects it again`);
  };
  let turn = Promise.resolve();
  const keys = createInterface({ input: process.stdin, terminal: false });
  keys.on("line", () => {
    turn = turn.then(toggle).catch((error: unknown) => report.tell(`${fault}: ${String(error)}`));
  });
  signal.addEventListener("abort", () => keys.close(), { once: true });
  cleanup.add("keys", async () => {
    keys.close();
    await turn;
  });
  report.tell("Enter ends the fault");
};

/** Shop, server beside it, and perhaps a fault, until the time is up or the signal comes. */
const runShop = async (fault: FaultName | null, args: DemoArgs, report: Report, signal: AbortSignal): Promise<void> => {
  const cleanup = new Cleanup();
  try {
    const plan = args.shuffle ? shuffledPlan(Math.random) : plainPlan();
    const environment = await makeEnvironment(plan, cleanup);
    for (const off of environment.off) report.tell(off);
    if (environment.network === null)
      report.tell("processes, listeners and resources from /proc are seen; traffic is off");
    const problem = fault === null ? null : faultProblem(faults[fault], environment, missingPrograms());
    if (problem !== null) throw new Error(problem);
    const common = { cleanup, tell: report.tell, signal };

    const url = args.server ?? DEFAULT_SERVER;
    const answers = await new ServerClient(url).whoAnswers();
    if (answers === "another program")
      throw new Error(`another program answers at ${url}: name a free one by --server`);
    if (answers === "coroot") report.tell(`using the Coroot server at ${url}`);
    else {
      const { port, hostname } = new URL(url);
      if (!["127.0.0.1", "localhost"].includes(hostname)) throw new Error(`no Coroot server answers at ${url}`);
      report.tell("starting a Coroot server and agent");
      await startServer({
        ...common,
        port: Number(port === "" ? 80 : port),
        folder: `${environment.folder}/server`,
        webhook: null,
      });
    }
    report.tell(`the page is at ${url}`);

    const shop = await startShop({ ...common, environment });
    const startedAt = now();
    const where = environment.network === null ? "on loopback" : `in namespaces on ${environment.network.range}.0/24`;
    const names = [...shop.services].map(([role, { name }]) => (name === role ? name : `${name} (${role})`));
    report.tell(`the shop runs ${where}: ${names.join(", ")}`);
    let untold: LoadSecond[] = [];
    shop.users.onSecond = (second) => {
      report.data("second", second);
      untold.push(second);
      if (untold.length < USERS_LINE_EVERY) return;
      report.tell(usersLine(untold));
      untold = [];
    };
    if (fault !== null) {
      const warmup = args.warmupSeconds ?? DEFAULT_WARMUP_SECONDS;
      report.tell(`${fault} comes in ${warmup} s`);
      await sleep(warmup * 1000, signal);
      await faultByHand(fault, shop, cleanup, report, signal);
    }
    if (args.seconds === undefined) {
      report.tell("Ctrl-C ends the demo and removes all of it");
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    } else await sleep(startedAt + args.seconds * 1000 - now(), signal);
    const { sent, ok, failed, slow } = shop.users.total;
    report.tell(`users in all: ${sent} requests, ${ok} ok, ${failed} failed, ${slow} slow`);
    report.data("users", { ...shop.users.total, unread: shop.users.unread });
  } catch (error) {
    // a person ended it: nothing went wrong
    if (!(isAbort(error) && signal.aborted)) throw error;
  } finally {
    for (const problem of await cleanup.run()) report.tell(`could not clean up: ${problem}`);
  }
};

export const runDemo = async (args: DemoArgs): Promise<number> => {
  const report = makeReport(args.json, (line) => process.stdout.write(`${line}\n`));
  const stop = new AbortController();
  const onSignal = (): void => {
    if (!stop.signal.aborted) report.tell("stopping and cleaning up");
    stop.abort();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) process.on(name, onSignal);
  try {
    const mode = demoMode(args);
    const missing = await ensurePrograms(report.tell);
    for (const sentence of missing) report.tell(`${sentence}; that part is off`);
    if (missing.length > 0 && mode.kind !== "shop") throw new Error("this needs the whole shop");
    const options = {
      shuffle: args.shuffle,
      warmupMs: (args.warmupSeconds ?? DEFAULT_WARMUP_SECONDS) * 1000,
      tell: report.tell,
      signal: stop.signal,
    };
    switch (mode.kind) {
      case "shop":
        await runShop(mode.fault, args, report, stop.signal);
        return 0;
      case "check": {
        const startedAt = now();
        const verdicts = await runCheck(mode.faults, options, (verdict) => {
          report.data("verdict", verdict);
          report.tell(`${verdict.fault}: ${verdict.right ? "right" : "wrong"}`);
          if (!verdict.right || verdict.late.length > 0)
            for (const line of verdict.account) report.tell(`  the incident says: ${line}`);
        });
        report.print(formatTable(verdicts));
        report.tell(`the check took ${((now() - startedAt) / 60_000).toFixed(1)} minutes`);
        return verdicts.every((verdict) => verdict.right) ? 0 : 1;
      }
      case "quiet": {
        const quiet = await runQuiet(mode.seconds, options);
        report.data("quiet", quiet);
        for (const incident of quiet.incidents) report.tell(`false alarm: ${incident.headline}`);
        report.tell(
          `${quiet.incidents.length} incidents and ${quiet.blips.length} blips in ${quiet.seconds} s of ` +
            `${quiet.requests} requests (${quiet.failed} failed, ${quiet.slow} slow)`,
        );
        return quiet.incidents.length === 0 ? 0 : 1;
      }
    }
  } catch (error) {
    if (isAbort(error) && stop.signal.aborted) return 130;
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof BadDemoArgument ? 2 : 1;
  } finally {
    for (const name of signals) process.off(name, onSignal);
  }
};
