/**
 * actor.kill9, lost_doubled, ledger_equal, sigterm, false_failover: three servers, PostgreSQL and a shared store on this
 * machine, the real agent link reporting to them. One measurement of kills serves three figures.
 */
import { spawn } from "node:child_process";
import { Deployment, type Replica } from "../../cluster/Deployment.ts";
import { FleetAgent } from "../../cluster/FleetAgent.ts";
import { until } from "../../cluster/until.ts";
import { capability } from "../../machine.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const SERVICES = 40;
const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0;

interface World {
  readonly deployment: Deployment;
  readonly agent: FleetAgent;
}

const withWorld = async <A>(use: (world: World) => Promise<A>): Promise<A> => {
  const deployment = await Deployment.start();
  let agent: FleetAgent | null = null;
  try {
    await deployment.settled();
    agent = await FleetAgent.start({ id: "n1", key: deployment.key, urls: deployment.agentUrls, services: SERVICES });
    for (const replica of deployment.living) await allSeen(replica);
    return await use({ deployment, agent });
  } finally {
    await agent?.close();
    await deployment.stop();
  }
};

const allSeen = (replica: Replica): Promise<string[]> =>
  until(`all services on ${replica.name}`, 60_000, async () => {
    const services = Object.keys(await replica.entries("/api/services"));
    return services.length > SERVICES ? services : undefined;
  });

/** Every service that lived on the dead replica answers for itself, asked through another. */
const answersElsewhere = async (deployment: Deployment, services: readonly string[]): Promise<void> => {
  const [witness] = deployment.living;
  if (witness === undefined) throw new Error("no server is left");
  await deployment.settled(90_000);
  for (const id of services)
    await until(
      `an answer of ${id}`,
      60_000,
      async () => {
        const page = await witness.entries(`/api/service?id=${encodeURIComponent(id)}`);
        return page["card"] === undefined ? undefined : true;
      },
      20,
    );
};

interface Kills {
  readonly seconds: readonly number[];
  readonly faults: number;
  readonly lostOrDoubled: number;
  readonly sent: { readonly total: number; readonly bad: number };
  readonly counted: { readonly total: number; readonly bad: number };
}

const killing = (context: MeasureContext): Promise<Kills> =>
  withWorld(async ({ deployment, agent }) => {
    const seconds: number[] = [];
    const kills = context.long ? 20 : 3;
    let lostOrDoubled = 0;
    for (let i = 0; i < kills; i++) {
      const victim = deployment.replicas[i % deployment.replicas.length];
      if (victim === undefined) continue;
      const on = (await victim.actors("service")).filter((actor) => actor.node === victim.name);
      const known = new Set(deployment.alerts.map(({ key }) => key));
      agent.failing.add(i % SERVICES);
      await until("a suspicion", 30_000, async () =>
        (await victim.incidents()).some((card) => card.status === "suspicion" || card.status === "open")
          ? true
          : undefined,
      );
      const began = performance.now();
      await victim.end("SIGKILL");
      await answersElsewhere(
        deployment,
        on.map(({ path }) => path.slice("service/".length)),
      );
      seconds.push((performance.now() - began) / 1000);
      context.log(`kill ${i + 1} of ${kills}: ${seconds.at(-1)?.toFixed(1)} s for ${on.length} actors`);
      const fresh = (what: string): string[] => [
        ...new Set(deployment.alerts.map(({ key }) => key).filter((key) => !known.has(key) && key.endsWith(what))),
      ];
      await until("the alert", 60_000, () => (fresh(":opened").length > 0 ? true : undefined)).catch(() => undefined);
      agent.failing.clear();
      await until("its end", 90_000, () => (fresh(":resolved").length > 0 ? true : undefined)).catch(() => undefined);
      lostOrDoubled += Math.abs(fresh(":opened").length - 1) + Math.abs(fresh(":resolved").length - 1);
      await victim.start();
      await deployment.settled(90_000);
    }
    agent.pause();
    const sent = { total: 0, bad: 0 };
    for (const one of agent.sent.values()) {
      sent.total += one.total;
      sent.bad += one.bad;
    }
    const ledger = async () => {
      const [row] = await deployment.query<{ total: string; bad: string }>(
        `SELECT sum(t) AS total, sum(b) AS bad FROM (
           SELECT argMax(total, version) AS t, argMax(bad, version) AS b FROM coroot.sli_minutes GROUP BY service, minute)`,
      );
      return { total: Number(row?.total ?? 0), bad: Number(row?.bad ?? 0) };
    };
    await until("the last minute", 110_000, async () =>
      (await ledger()).total >= sent.total ? true : undefined,
    ).catch(() => undefined);
    return { seconds, faults: kills, lostOrDoubled, sent, counted: await ledger() };
  });

let killed: Promise<Kills> | null = null;
const needs = (): string | null => {
  for (const name of ["postgres", "chdb"] as const) {
    const found = capability(name);
    if (!found.available) return found.reason;
  }
  return null;
};
const fromKills =
  (read: (kills: Kills) => Measured) =>
  async (context: MeasureContext): Promise<Measured> => {
    const missing = needs();
    if (missing !== null) return { value: null, reason: missing };
    killed ??= killing(context);
    return read(await killed);
  };

const metric = async (replica: Replica, name: string): Promise<number> => {
  const text = await (await fetch(`${replica.url}/metrics`)).text();
  return text
    .split("\n")
    .filter((line) => line.startsWith(name))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
};

/** Claims and doubts of all servers so far: each hand-over adds one. */
const handOvers = async (deployment: Deployment): Promise<number> => {
  let sum = 0;
  for (const replica of deployment.living)
    sum +=
      (await metric(replica, "coroot_cluster_claims_total")) +
      (await metric(replica, "coroot_cluster_claims_in_doubt_total"));
  return sum;
};

const LOAD = 10;

export const figures: readonly Figure[] = [
  {
    id: "actor.kill9",
    figure: "kill -9 to all its actors answering elsewhere, median",
    unit: "s",
    bar: "≤ 12",
    holds: (value) => value <= 12,
    measure: fromKills(({ seconds }) => ({
      value: median(seconds),
      detail: `${seconds.length} kills: ${seconds.map((s) => s.toFixed(1)).join(", ")} s`,
    })),
  },
  {
    id: "actor.lost_doubled",
    figure: "incidents and alert transitions lost or doubled over the kills",
    unit: "transitions",
    bar: "0",
    holds: (value) => value === 0,
    measure: fromKills(({ lostOrDoubled, faults }) => ({
      value: lostOrDoubled,
      detail: `${faults} faults, each in the middle of a kill`,
    })),
  },
  {
    id: "actor.ledger_equal",
    figure: "requests in the ledger after the kills ÷ requests sent",
    unit: "ratio",
    bar: "1, bad ones too",
    holds: (value) => value === 1,
    measure: fromKills(({ sent, counted }) => ({
      value: counted.bad === sent.bad ? counted.total / sent.total : counted.bad / Math.max(1, sent.bad),
      detail: `${counted.total} of ${sent.total} requests, ${counted.bad} of ${sent.bad} bad ones`,
    })),
  },
  {
    id: "actor.sigterm",
    figure: "SIGTERM to all parts owned by the others, median",
    unit: "s",
    bar: "≤ 3",
    holds: (value) => value <= 3,
    measure: async (context): Promise<Measured> => {
      const missing = needs();
      if (missing !== null) return { value: null, reason: missing };
      return withWorld(async ({ deployment }) => {
        const seconds: number[] = [];
        for (const replica of deployment.replicas) {
          const began = performance.now();
          const ended = replica.end("SIGTERM");
          await deployment.settled(60_000);
          seconds.push((performance.now() - began) / 1000);
          context.log(`${replica.name}: ${seconds.at(-1)?.toFixed(1)} s`);
          await ended;
          await replica.start();
          await deployment.settled(90_000);
        }
        return { value: median(seconds), detail: seconds.map((s) => s.toFixed(1)).join(", ") };
      });
    },
  },
  {
    id: "actor.false_failover",
    figure: `hand-overs at machine load ${LOAD}, nobody killed`,
    unit: "hand-overs",
    bar: "0",
    holds: (value) => value === 0,
    measure: async (context): Promise<Measured> => {
      const missing = needs();
      if (missing !== null) return { value: null, reason: missing };
      return withWorld(async ({ deployment }) => {
        const seconds = context.long ? 600 : 45;
        const before = await handOvers(deployment);
        // Each ends by itself, also when this process is gone.
        const burn = `const end = Date.now() + ${seconds * 1000}; while (Date.now() < end);`;
        const burning = Array.from({ length: LOAD }, () => spawn(process.execPath, ["-e", burn], { stdio: "ignore" }));
        await Promise.all(burning.map((child) => new Promise((resolve) => child.once("close", resolve))));
        return {
          value: (await handOvers(deployment)) - before,
          detail: `${seconds} s with ${LOAD} processes that never wait`,
        };
      });
    },
  },
];
