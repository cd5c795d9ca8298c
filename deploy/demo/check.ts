/**
 * The check: each fault against a fresh server, agent and shop; 60 s of load, the fault, what the server said and when,
 * the fault's end, the recovery. Owned by the command that asked. A run that cannot be made fails with its reason; each
 * run undoes all it made before the next begins.
 */
import type { FaultName } from "./args.ts";
import { Cleanup } from "./cleanup.ts";
import { now, sleep, TimedOut, until } from "./clock.ts";
import { environmentInTurn, freePort } from "./environment.ts";
import { faultProblem, faults } from "./faults.ts";
import { missingPrograms } from "./packages.ts";
import { plainPlan, shuffledPlan, type Plan } from "./plan.ts";
import { startServer, type IncidentSeen, type ServerClient } from "./server.ts";
import { startShop, type Shop } from "./shop.ts";
import { concernsUs, judge, truthOf, type Seen, type Verdict } from "./truth.ts";
import { startReceiver, type Receiver } from "./webhook.ts";

const FIRST_BAD_WITHIN_MS = 45_000;
const OPEN_WITHIN_MS = 45_000;
const CAUSE_WITHIN_MS = 5_000;
const CLOSED_WITHIN_MS = 75_000;
const POLL_MS = 250;

export interface RunOptions {
  readonly shuffle: boolean;
  readonly warmupMs: number;
  readonly tell: (text: string) => void;
  readonly signal?: AbortSignal;
}

export interface Bench {
  readonly shop: Shop;
  readonly server: ServerClient;
  readonly receiver: Receiver;
  readonly cleanup: Cleanup;
}

/** A fresh server, agent and shop, under load for the warm-up; undone whatever `use` does. */
export const withBench = async <A>(options: RunOptions, use: (bench: Bench) => Promise<A>): Promise<A> => {
  const { tell, signal } = options;
  const cleanup = new Cleanup();
  try {
    const plan = options.shuffle ? shuffledPlan(Math.random) : plainPlan();
    const environment = await environmentInTurn(plan, cleanup, options);
    if (environment.off.length > 0) throw new Error(`traffic cannot be seen: ${environment.off.join("; ")}`);
    const receiver = await startReceiver(cleanup);
    const common = { cleanup, tell, ...(signal === undefined ? {} : { signal }) };
    const server = await startServer({
      ...common,
      port: await freePort(),
      folder: `${environment.folder}/server`,
      webhook: receiver.url,
    });
    const shop = await startShop({ ...common, environment });
    tell(`server at ${server.url}, shop at ${shop.url}; ${options.warmupMs / 1000} s of load first`);
    await sleep(options.warmupMs, signal);
    for (const blind of await server.blindSpots()) tell(`the agent says: ${blind}`);
    const { sent, failed, slow } = shop.users.total;
    if (failed + slow > 0) tell(`during the warm-up ${failed} of ${sent} requests failed and ${slow} were slow`);
    return await use({ shop, server, receiver, cleanup });
  } finally {
    for (const problem of await cleanup.run()) tell(`could not clean up: ${problem}`);
  }
};

const orNull = async <A>(waiting: Promise<A>): Promise<A | null> => {
  try {
    return await waiting;
  } catch (error) {
    if (error instanceof TimedOut) return null;
    throw error;
  }
};

/** The incident that opened after the injection, once it names a cause or had its time for it. */
const opened = async (
  server: ServerClient,
  plan: Plan,
  injectedAt: number,
  withinMs: number,
  signal: AbortSignal | undefined,
): Promise<IncidentSeen | null> => {
  const first = await orNull(
    until(
      "an incident",
      withinMs,
      async () => {
        const all = await server.incidents();
        return all.find(
          ({ openedAt, service }) => openedAt !== null && openedAt >= injectedAt && concernsUs(service, plan),
        );
      },
      { signal, everyMs: POLL_MS },
    ),
  );
  if (first === null) return null;
  const explained = await orNull(
    until(
      "a cause",
      CAUSE_WITHIN_MS,
      async () => {
        const incident = await server.incident(first.id);
        return incident.cause === null ? undefined : incident;
      },
      { signal, everyMs: POLL_MS },
    ),
  );
  return explained ?? server.incident(first.id);
};

export const runFault = async (fault: FaultName, bench: Bench, options: RunOptions): Promise<Seen> => {
  const { shop, server, receiver } = bench;
  const { tell, signal } = options;
  const { plan } = shop.environment;
  const means = faults[fault];
  const problem = faultProblem(means, shop.environment, missingPrograms());
  if (problem !== null) throw new Error(problem);
  const role = means.role(plan.shuffled);

  const injectedAt = now();
  const end = await means.inject(shop, role);
  tell(`${fault}: ${means.what(plan.services[role].name)}`);
  const bad = await orNull(
    until("a failed or slow request", FIRST_BAD_WITHIN_MS, () => shop.users.firstBad(injectedAt), {
      signal,
      everyMs: POLL_MS,
    }),
  );
  const firstBadAt = bad?.at ?? null;
  if (bad !== null)
    tell(`first ${bad.type} request ${((bad.at - injectedAt) / 1000).toFixed(1)} s after the injection`);
  const incident = await opened(server, plan, injectedAt, (firstBadAt ?? now()) + OPEN_WITHIN_MS - now(), signal);
  if (incident !== null) tell(`incident: ${incident.headline}`);

  const endedAt = now();
  await end();
  tell(incident === null ? "the fault is ended; no incident opened" : "the fault is ended; waiting for the recovery");
  const isClosed = async (id: string): Promise<IncidentSeen | undefined> => {
    const now = await server.incident(id);
    return now.resolvedAt === null ? undefined : now;
  };
  const resolved =
    incident === null
      ? null
      : await orNull(
          until("the end of the incident", CLOSED_WITHIN_MS, () => isClosed(incident.id), { signal, everyMs: POLL_MS }),
        );
  const all = await server.incidents();
  const beside = all.filter((other) => other.openedAt !== null && other.id !== incident?.id);
  for (const other of beside)
    if (!concernsUs(other.service, plan)) tell(`an incident about this machine, not the shop: ${other.headline}`);
  const webhook = receiver.deliveries.find(
    (delivery) => delivery.event === "incident.opened" && delivery.incident === incident?.id,
  );
  return {
    fault,
    truth: truthOf(fault, plan),
    injectedAt,
    firstBadAt,
    endedAt,
    webhookAt: webhook?.arrivedAt ?? null,
    incident,
    resolvedAt: resolved?.resolvedAt ?? null,
    others: beside.filter((other) => concernsUs(other.service, plan)),
    last: incident === null ? null : await server.incident(incident.id),
  };
};

/** Runs the faults one after the other; `onVerdict` hears of each as soon as it is known. */
export const runCheck = async (
  names: readonly FaultName[],
  options: RunOptions,
  onVerdict: (verdict: Verdict) => void = () => {},
): Promise<readonly Verdict[]> => {
  const verdicts: Verdict[] = [];
  for (const name of names) {
    const verdict = judge(await withBench(options, (bench) => runFault(name, bench, options)));
    verdicts.push(verdict);
    onVerdict(verdict);
  }
  return verdicts;
};

export interface Quiet {
  readonly seconds: number;
  readonly requests: number;
  readonly failed: number;
  readonly slow: number;
  readonly incidents: readonly IncidentSeen[];
  /** suspicions that did not become incidents */
  readonly blips: readonly IncidentSeen[];
}

/** A healthy shop for that long after the warm-up: whatever opens since the server's start is a false alarm. */
export const runQuiet = async (seconds: number, options: RunOptions): Promise<Quiet> =>
  withBench(options, async ({ shop, server }) => {
    const before = { ...shop.users.total };
    await sleep(seconds * 1000, options.signal);
    const { sent, failed, slow } = shop.users.total;
    const all = (await server.incidents()).filter(({ service }) => concernsUs(service, shop.environment.plan));
    return {
      seconds,
      requests: sent - before.sent,
      failed: failed - before.failed,
      slow: slow - before.slow,
      incidents: all.filter((incident) => incident.openedAt !== null),
      blips: all.filter((incident) => incident.openedAt === null),
    };
  });
