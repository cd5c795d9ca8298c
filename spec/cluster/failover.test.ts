/**
 * Three servers on one PostgreSQL, with the real agent link reporting to them: what a dead, a stopping and a cut-off
 * server must not lose. Alerts are counted as a receiver does that de-duplicates by key.
 */
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { IncidentCard, Overview, ServiceCard } from "../../schemas/wire/page.ts";
import { describeWith } from "../capabilities.ts";
import { Deployment, type Replica } from "./Deployment.ts";
import { FleetAgent } from "./FleetAgent.ts";
import { until } from "./until.ts";

const SERVICES = 40;

let deployment: Deployment;
let agent: FleetAgent;

/** Keys of the transitions that arrived, each once, in order. */
const transitions = (): string[] => [...new Set(deployment.alerts.map(({ key }) => key))];
const nameOf = (i: number): string => `svc-${i}`;

const incidentOf = async (replica: Replica, service: string): Promise<IncidentCard | undefined> =>
  (await replica.incidents()).find((card) => card.service.endsWith(`/${service}`) && card.status !== "blip");

const whenOpen = (replica: Replica, service: string, withinMs = 40_000): Promise<IncidentCard> =>
  until(`an open incident of ${service} on ${replica.name}`, withinMs, async () => {
    const card = await incidentOf(replica, service);
    return card?.status === "open" ? card : undefined;
  });
const whenResolved = (replica: Replica, id: string, withinMs = 90_000): Promise<true> =>
  until(`the end of ${id}`, withinMs, async () =>
    (await replica.incidents()).some((card) => card.id === id && card.status === "resolved") ? true : undefined,
  );
const whenSeen = (replica: Replica, withinMs = 40_000): Promise<true> =>
  until(`all services on ${replica.name}`, withinMs, async () =>
    Object.keys(await replica.entries("/api/services")).length > SERVICES ? true : undefined,
  );
const replica = (i: number): Replica => {
  const found = deployment.replicas[i];
  if (found === undefined) throw new Error(`no replica ${i}`);
  return found;
};
const isUp = async (one: Replica, service: string): Promise<boolean> =>
  ((await one.entries<ServiceCard>("/api/services"))[service]?.instances ?? 0) > 0;
/** The replica that has the incident desk. */
const withMain = async (): Promise<Replica> => {
  for (const one of deployment.living)
    if ((await one.actors("incident-desk")).some((actor) => actor.node === one.name)) return one;
  throw new Error("nobody has the incident desk");
};

type Counted = Record<string, { total: number; bad: number }>;

/** Requests and bad ones of each service, as the store has them in the end. */
const ledger = async (): Promise<Counted> => {
  const rows = await deployment.query<{ service: string; total: string; bad: string }>(
    `SELECT service, sum(t) AS total, sum(b) AS bad FROM (
       SELECT service, argMax(total, version) AS t, argMax(bad, version) AS b FROM coroot.sli_minutes
       WHERE service LIKE 'default/n1/%' GROUP BY service, minute) GROUP BY service`,
  );
  return Object.fromEntries(
    rows.map(({ service, total, bad }) => [
      service.slice(service.lastIndexOf("/") + 1),
      { total: Number(total), bad: Number(bad) },
    ]),
  );
};

describeWith(["postgres", "chdb"], "three servers", () => {
  beforeAll(async () => {
    deployment = await Deployment.start();
    await deployment.settled();
    agent = await FleetAgent.start({ id: "n1", key: deployment.key, urls: deployment.agentUrls, services: SERVICES });
    for (const one of deployment.living) await whenSeen(one);
  }, 120_000);
  afterAll(async () => {
    await agent?.close();
    await deployment?.stop();
  }, 60_000);
  afterEach(({ task }) => {
    if (task.result?.state !== "fail") return;
    for (const { name, log } of deployment.replicas) process.stderr.write(`=== ${name}\n${log}\n`);
  });

  it("share the services, and each of them shows all and reaches every actor", async () => {
    for (const one of deployment.living) expect((await one.parts()).owned).toBeGreaterThan(20);
    for (const one of deployment.living) {
      const services = Object.keys(await one.entries("/api/services"));
      const pages = await Promise.all(
        services.slice(0, 12).map((id) => one.entries(`/api/service?id=${encodeURIComponent(id)}`)),
      );
      for (const page of pages) expect(page["card"]).toBeDefined();
      const nodes = new Set((await one.actors("service")).map((actor) => actor.node));
      expect([...nodes].toSorted()).toEqual(["r1", "r2", "r3"]);
    }
  });

  it("lose nothing when the one with the incident desk is killed in the middle of an incident", async () => {
    agent.failing.add(3);
    const victim = await withMain();
    const before = await whenOpen(victim, nameOf(3));
    await until("the alert", 15_000, () => (transitions().includes(`${before.id}:opened`) ? true : undefined));
    const doomed = await FleetAgent.start({
      id: "n2",
      key: deployment.key,
      urls: [`ws://127.0.0.1:${victim.port}/agent`],
      services: 1,
    });
    const lonely = "default/n2/SystemdUnit/svc-0";
    await until("the other node", 20_000, async () => ((await isUp(victim, lonely)) ? true : undefined));
    agent.failing.add(7);
    await victim.end("SIGKILL");
    await doomed.close();
    const [witness] = deployment.living;
    if (witness === undefined) throw new Error("nobody is left");
    await deployment.settled(30_000);
    await whenSeen(witness);
    const again = await whenOpen(witness, nameOf(3));
    expect(again.id).toBe(before.id);
    const other = await whenOpen(witness, nameOf(7));
    // Both are called by the same client, so they may be one incident; either way each is alerted once.
    await until("the alert of the second", 20_000, () =>
      transitions().includes(`${other.id}:opened`) ? true : undefined,
    );
    agent.failing.clear();
    for (const id of new Set([before.id, other.id])) {
      await whenResolved(witness, id);
      await until("the last alert", 20_000, () => (transitions().includes(`${id}:resolved`) ? true : undefined));
    }
    const opened = transitions().filter((key) => key.endsWith(":opened"));
    const cards = (await witness.incidents()).filter((card) => card.openedAt !== null);
    expect(opened.toSorted()).toEqual(cards.map((card) => `${card.id}:opened`).toSorted());
    // A node that died together with the replica it was connected to: nobody was left to hear it go.
    await until("the end of the other node", 60_000, async () => ((await isUp(witness, lonely)) ? undefined : true));
    await victim.start();
    await deployment.settled();
  }, 240_000);

  it("hand over before one stops", async () => {
    const leaver = replica(1);
    const took = await leaver.end("SIGTERM");
    const [witness] = deployment.living;
    if (witness === undefined) throw new Error("nobody is left");
    await deployment.settled(10_000);
    expect(took).toBeLessThan(8_000);
    await whenSeen(witness);
    await leaver.start();
    await deployment.settled();
  }, 120_000);

  it("go on without the database: suspected in time, and exactly one alert once it is back", async () => {
    const desk = await withMain();
    const known = transitions().length;
    await deployment.postgres.kill();
    await until("claims in doubt", 45_000, async () => {
      const { parts } = await desk.get<{ parts: Record<string, { message: string }> }>("/health");
      return parts["replica"]?.message.includes("in doubt") === true ? true : undefined;
    });
    agent.failing.add(11);
    const began = performance.now();
    await until("the suspicion", 15_000, async () => await incidentOf(desk, nameOf(11)));
    expect(performance.now() - began).toBeLessThan(10_000);
    const { overview } = await desk.entries<Overview>("/api/overview");
    expect(overview?.notices.join("\n")).toContain("state database");
    // The incident opens after its hold time, and must stay silent.
    await whenOpen(desk, nameOf(11));
    expect(transitions()).toHaveLength(known);
    await deployment.postgres.up();
    const opened = await until("the alert", 60_000, () =>
      transitions()
        .slice(known)
        .find((key) => key.endsWith(":opened")),
    );
    agent.failing.clear();
    await until("the last alert", 90_000, () =>
      transitions().includes(opened.replace(":opened", ":resolved")) ? true : undefined,
    );
    expect(
      transitions()
        .slice(known)
        .filter((key) => key.endsWith(":opened")),
    ).toEqual([opened]);
    await deployment.settled();
  }, 300_000);

  it("go on when one is cut from the database: its actors decide, another records, one alert leaves", async () => {
    const cut = await withMain();
    const known = transitions().length;
    cut.proxy.cut();
    agent.failing.add(19);
    const began = performance.now();
    await until("the suspicion", 15_000, async () => await incidentOf(cut, nameOf(19)));
    expect(performance.now() - began).toBeLessThan(10_000);
    const opened = await until("the alert", 100_000, () =>
      transitions()
        .slice(known)
        .find((key) => key.endsWith(":opened")),
    );
    cut.proxy.mend();
    agent.failing.clear();
    await until("the last alert", 90_000, () =>
      transitions().includes(opened.replace(":opened", ":resolved")) ? true : undefined,
    );
    expect(
      transitions()
        .slice(known)
        .filter((key) => key.endsWith(":opened")),
    ).toEqual([opened]);
    await deployment.settled();
  }, 300_000);

  it("count every request, whoever died", async () => {
    agent.pause();
    const sent: Counted = Object.fromEntries([...agent.sent].map(([i, sums]) => [nameOf(i), sums]));
    const counted = await until("the last minute in the store", 150_000, async () => {
      const now = await ledger();
      return Object.entries(sent).every(([service, { total }]) => (now[service]?.total ?? 0) >= total)
        ? now
        : undefined;
    });
    expect(counted).toEqual(sent);
  }, 180_000);
});
