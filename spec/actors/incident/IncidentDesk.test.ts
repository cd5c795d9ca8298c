import { describe, expect, it } from "vitest";
import { incidentDesk, type DeskMessage } from "../../../actors/incident/IncidentDesk.ts";
import type { ActorEffect } from "../../../runtime/actor/Behavior.ts";
import type { AlertPayload, Incident } from "../../../schemas/incident.ts";
import { serviceId, serviceName, type ServiceId } from "../../../schemas/service.ts";

const id = (name: string): ServiceId => serviceId("default", "n", "SystemdUnit", name);

const desk = (snapshot?: unknown) => {
  const argument = { sinks: ["alert-sink/hook"], url: "http://127.0.0.1:8080" };
  const [first, started] = incidentDesk.initial("incident-desk", argument, 0, snapshot);
  let state = first;
  const effects: ActorEffect[] = [...started];
  const tell = (message: DeskMessage, now: number): readonly ActorEffect[] => {
    const [next, made] = incidentDesk.step(state, message, now);
    state = next;
    // What follows a snapshot happens once it is written, which it is at once here.
    const all = made.flatMap((effect) =>
      effect.kind === "snapshot" ? [effect, ...(effect.afterwards ?? [])] : [effect],
    );
    effects.push(...all);
    return all;
  };
  const incidents = (): Incident[] => {
    const last = new Map<string, Incident>();
    for (const effect of effects)
      if (effect.kind === "publish" && effect.value !== null) last.set(effect.key, effect.value as Incident);
    return [...last.values()];
  };
  const alerts = (): AlertPayload[] =>
    effects.flatMap((effect) =>
      effect.kind === "send" && effect.message.type === "deliver"
        ? [(effect.message as unknown as { payload: AlertPayload }).payload]
        : [],
    );
  const suspect = (name: string, now: number) =>
    tell({ type: "suspect", service: id(name), onset: now - 1_000, text: "requests fail" }, now);
  const confirm = (name: string, now: number) =>
    tell({ type: "confirm", service: id(name), onset: now - 15_000, severity: "critical", text: "requests fail" }, now);
  const clear = (name: string, now: number) => tell({ type: "cleared", service: id(name), text: "well" }, now);
  return { tell, suspect, confirm, clear, incidents, alerts, effects };
};

const calls = (told: ReturnType<typeof desk>): void => {
  for (const to of ["cart", "catalog"]) told.tell({ type: "graph", from: id("front"), to: id(to) }, 0);
};

describe("incident desk", () => {
  it("makes one case of two when a service turns out to call both, named after the caller", () => {
    const told = desk();
    calls(told);
    told.suspect("cart", 1_000);
    told.suspect("catalog", 2_000);
    expect(told.incidents().filter((incident) => incident.status === "suspicion")).toHaveLength(2);
    told.suspect("front", 3_000);
    const [one, ...others] = told.incidents().filter((incident) => incident.status === "suspicion");
    expect(others).toEqual([]);
    expect(one?.members.map(serviceName).toSorted()).toEqual(["cart", "catalog", "front"]);
    expect(serviceName(one?.service ?? id("?"))).toBe("front");
  });

  it("keeps apart what has no call between it", () => {
    const told = desk();
    told.suspect("cart", 1_000);
    told.suspect("mail", 2_000);
    expect(told.incidents()).toHaveLength(2);
  });

  it("alerts without the cause when none came in time, and once", () => {
    const told = desk();
    told.suspect("cart", 1_000);
    const made = told.confirm("cart", 16_000);
    expect(told.alerts()).toEqual([]);
    const due = made.find((effect) => effect.kind === "schedule" && effect.key.startsWith("alert:"));
    if (due?.kind !== "schedule") throw new Error("no alert is due");
    expect(due.afterMs).toBeLessThanOrEqual(3_000);
    told.tell(due.message as DeskMessage, 19_000);
    told.tell(due.message as DeskMessage, 20_000);
    expect(told.alerts().map((alert) => alert.event)).toEqual(["incident.opened"]);
  });

  it("sends nothing for symptoms that join an open incident, and closes it with its last member", () => {
    const told = desk();
    calls(told);
    told.suspect("cart", 1_000);
    told.confirm("cart", 16_000);
    told.suspect("front", 17_000);
    told.confirm("front", 32_000);
    told.clear("cart", 60_000);
    expect(told.incidents()[0]?.status).toBe("open");
    told.clear("front", 61_000);
    expect(told.incidents()[0]?.status).toBe("resolved");
    expect(told.alerts().map((alert) => alert.event)).toEqual(["incident.opened", "incident.resolved"]);
  });

  it("knows its open incidents and who calls whom after a restart of its own", () => {
    const told = desk();
    calls(told);
    told.suspect("cart", 1_000);
    told.confirm("cart", 16_000);
    const kept = told.effects.findLast((effect) => effect.kind === "snapshot");
    const again = desk(kept?.kind === "snapshot" ? kept.value : undefined);
    expect(again.effects).toContainEqual(
      expect.objectContaining({ to: "topology", message: { type: "calls-wanted" } }),
    );
    again.tell({ type: "calls", calls: [[id("front"), id("cart")]] }, 19_000);
    again.suspect("front", 20_000);
    expect(again.incidents().map((incident) => incident.status)).toEqual(["open"]);
    expect(again.incidents()[0]?.members.map(serviceName).toSorted()).toEqual(["cart", "front"]);
  });
});
