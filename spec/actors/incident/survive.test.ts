/**
 * The incident desk through crashes and moves: services repeat what they report, snapshots may or may not have been
 * written when it died, messages that are kept may come twice. In the end every fault has one incident and every
 * transition reached the receiver once.
 */
import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { webhookSink, type SinkMessage } from "../../../actors/alert-sink/WebhookSink.ts";
import { incidentDesk, type DeskMessage } from "../../../actors/incident/IncidentDesk.ts";
import { RECOVERY_HOLD_MS } from "../../../actors/service/phases.ts";
import type { ActorEffect, Message, Reply } from "../../../runtime/actor/Behavior.ts";
import type { AlertPayload, Incident } from "../../../schemas/incident.ts";
import { serviceId, type ServiceId } from "../../../schemas/service.ts";

const SERVICES = ["a", "b", "c", "d"].map((name) => serviceId("default", "n", "SystemdUnit", name));
const packr = new Packr({ useRecords: false, moreTypes: true });
const copy = (value: unknown): unknown => packr.unpack(packr.pack(value));

interface Fault {
  readonly service: number;
  readonly at: number;
  readonly lasts: number;
}

/** One desk, one sink and the engine between them, which keeps durable messages until they are done. */
const world = () => {
  let now = 0;
  let written: unknown;
  let confirmed = true;
  const withheld: ActorEffect[][] = [];
  const argument = { sinks: ["alert-sink/hook"], url: "http://127.0.0.1:8080" };
  let [desk] = incidentDesk.initial("incident-desk", argument, now, undefined);
  let [sink] = webhookSink.initial("alert-sink/hook", { name: "hook", url: "http://x", headers: {} }, now, undefined);
  const kept = new Map<string, { readonly to: string; readonly message: Message }>();
  const settled = new Set<string>();
  const received: AlertPayload[] = [];
  const incidents = new Map<string, Incident>();
  const timers = new Map<string, { readonly at: number; readonly message: Message }>();
  let reachable = true;

  const handOver = (key: string): void => {
    const one = kept.get(key);
    if (one?.to === "alert-sink/hook") tellSink(one.message as SinkMessage);
    // Nobody explains anything here.
    else if (one !== undefined) kept.delete(key);
  };
  const take = (effects: readonly ActorEffect[], from: "desk" | "sink"): void => {
    for (const effect of effects) {
      if (effect.kind === "send" && effect.durable !== undefined) {
        if (settled.has(effect.durable)) continue;
        kept.set(effect.durable, { to: effect.to, message: copy(effect.message) as Message });
        handOver(effect.durable);
      } else if (effect.kind === "send" && effect.to === "incident-desk") tellDesk(effect.message as DeskMessage);
      else if (effect.kind === "done") {
        kept.delete(effect.key);
        settled.add(effect.key);
      } else if (effect.kind === "snapshot") {
        // While the claim is in doubt the newest snapshot waits, and all that follows with it.
        if (confirmed) written = copy(effect.value);
        if (confirmed) take(effect.afterwards ?? [], from);
        else withheld.push([effect]);
      } else if (effect.kind === "publish" && effect.board === "incidents" && effect.value !== null)
        incidents.set(effect.key, effect.value as Incident);
      else if (effect.kind === "schedule")
        timers.set(`${from}:${effect.key}`, { at: now + effect.afterMs, message: effect.message });
      else if (effect.kind === "cancel") timers.delete(`${from}:${effect.key}`);
      else if (effect.kind === "perform" && effect.port === "http-post") {
        const { body } = effect.request as { readonly body: string };
        if (reachable) received.push(JSON.parse(body) as AlertPayload);
        const result: Reply["result"] = reachable
          ? { ok: true, value: { status: 200 } }
          : { ok: false, error: "connection refused" };
        tellSink({ type: "reply", tag: effect.tag ?? "", from: "port/http-post", result });
      }
    }
  };
  const tellDesk = (message: DeskMessage): void => {
    const [next, effects] = incidentDesk.step(desk, message, now);
    desk = next;
    take(effects, "desk");
  };
  const tellSink = (message: SinkMessage): void => {
    const [next, effects] = webhookSink.step(sink, message, now);
    sink = next;
    take(effects, "sink");
  };
  return {
    at: (ms: number) => {
      now = ms;
      for (const [key, timer] of timers) {
        if (timer.at > now) continue;
        timers.delete(key);
        if (key.startsWith("desk:")) tellDesk(timer.message as DeskMessage);
        else tellSink(timer.message as SinkMessage);
      }
      tellDesk({ type: "tick" });
    },
    tellDesk,
    doubt: () => (confirmed = false),
    confirm: () => {
      confirmed = true;
      for (const effects of withheld.splice(0)) take(effects, "desk");
    },
    unreachable: (yes: boolean) => (reachable = !yes),
    /** the desk goes on elsewhere from what was written; the sink from nothing, and is handed everything again */
    die: () => {
      withheld.length = 0;
      confirmed = true;
      timers.clear();
      const [next, effects] = incidentDesk.initial("incident-desk", argument, now, written);
      desk = next;
      [sink] = webhookSink.initial("alert-sink/hook", { name: "hook", url: "http://x", headers: {} }, now, undefined);
      for (const key of kept.keys()) handOver(key);
      take(effects, "desk");
    },
    received,
    incidents,
  };
};

/** What a receiver that de-duplicates by key has seen, per incident. */
const events = (received: readonly AlertPayload[]): Map<string, string[]> => {
  const seen = new Set<string>();
  const out = new Map<string, string[]>();
  for (const { key, event, incident } of received) {
    if (seen.has(key)) continue;
    seen.add(key);
    out.set(incident.id, [...(out.get(incident.id) ?? []), event]);
  }
  return out;
};

/** Seconds between the end of a fault and the service's word that it is well; said again every five. */
const RECOVERY = RECOVERY_HOLD_MS / 1000;

describe("the incident desk", () => {
  it("loses no incident, opens none twice and tells each transition once, wherever it dies", () => {
    const fault = fc.record({
      service: fc.integer({ min: 0, max: 3 }),
      at: fc.integer({ min: 5, max: 60 }),
      lasts: fc.integer({ min: 25, max: 60 }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(fault, { selector: ({ service }) => service, minLength: 1, maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 140 }), { maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 140 }), { maxLength: 2 }),
        fc.array(fc.integer({ min: 1, max: 140 }), { maxLength: 2 }),
        (faults: readonly Fault[], deaths, doubts, outages) => {
          const it = world();
          for (let second = 0; second < 200; second++) {
            it.at(second * 1000);
            if (doubts.some((at) => at === second)) it.doubt();
            if (doubts.some((at) => at + 12 === second)) it.confirm();
            if (outages.some((at) => at === second)) it.unreachable(true);
            if (outages.some((at) => at + 9 === second)) it.unreachable(false);
            if (deaths.includes(second)) it.die();
            for (const { service: index, at, lasts } of faults) {
              const service = SERVICES[index] as ServiceId;
              const onset = at * 1000;
              const age = second - at;
              if (age >= 0 && age < 15 && age % 5 === 0)
                it.tellDesk({ type: "suspect", service, onset, text: "fails" });
              if (age >= 15 && age < lasts && age % 5 === 0)
                it.tellDesk({ type: "confirm", service, onset, severity: "critical", text: "fails" });
              if (age >= lasts && age < lasts + RECOVERY && (age - lasts) % 5 === 0)
                it.tellDesk({ type: "recovering", service, onset, text: "better" });
              if (age === lasts + RECOVERY) it.tellDesk({ type: "cleared", service, text: "well" });
            }
          }
          it.confirm();
          // A desk that died between the last report and the end has nobody to tell it; a service that is asked is well.
          const cleared = faults.filter(({ at, lasts }) => !deaths.includes(at + lasts + RECOVERY));
          const told = events(it.received);
          expect(told.size).toBe(faults.length);
          for (const list of told.values()) {
            expect(list.filter((event) => event === "incident.opened")).toHaveLength(1);
            expect(list[0]).toBe("incident.opened");
            expect(list.filter((event) => event === "incident.resolved").length).toBeLessThanOrEqual(1);
          }
          expect([...told.values()].filter((list) => list.includes("incident.resolved")).length).toBeGreaterThanOrEqual(
            doubts.length > 0 ? 0 : cleared.length,
          );
        },
      ),
      { numRuns: 150, endOnFailure: true },
    );
  });

  it("keeps an alert back while its claim is in doubt, and sends it once when it is confirmed", () => {
    const it = world();
    const service = SERVICES[0] as ServiceId;
    it.doubt();
    for (let second = 0; second < 30; second++) {
      it.at(second * 1000);
      if (second === 1) it.tellDesk({ type: "suspect", service, onset: 500, text: "fails" });
      if (second === 16) it.tellDesk({ type: "confirm", service, onset: 500, severity: "critical", text: "fails" });
    }
    expect([...it.incidents.values()].map((incident) => incident.status)).toEqual(["open"]);
    expect(it.received).toEqual([]);
    it.confirm();
    for (let second = 30; second < 60; second++) it.at(second * 1000);
    expect(it.received.map(({ event }) => event)).toEqual(["incident.opened"]);
  });
});
