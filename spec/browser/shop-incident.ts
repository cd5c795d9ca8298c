/** The generated shop's incidents: one that goes on with its cause, and a short history. */
import type { Evidence, Incident } from "../../schemas/incident.ts";
import type { IncidentCard } from "../../schemas/wire/page.ts";
import type { Made } from "./shop-graph.ts";
import type { Shop } from "./shop.ts";

export const incidentsOf = (shop: Shop): Readonly<Record<string, IncidentCard>> => {
  const past = (
    n: number,
    status: "resolved" | "blip",
    headline: string,
    service: Made | undefined,
  ): readonly (readonly [string, IncidentCard])[] =>
    service === undefined
      ? []
      : [
          [
            `inc-${n}`,
            {
              id: `inc-${n}`,
              status,
              severity: "critical",
              service: service.id,
              headline,
              cause: status === "blip" ? null : { service: service.id, kind: "memory", confidence: "medium" },
              impact: 0.034,
              suspectedAt: shop.startedAt - n * 4_000_000,
              openedAt: status === "blip" ? null : shop.startedAt - n * 4_000_000 + 15_000,
              resolvedAt: shop.startedAt - n * 4_000_000 + (status === "blip" ? 9_000 : 420_000),
              members: 2,
            },
          ],
        ];
  const history = [
    ...past(1, "resolved", "cart answers 3.4 % of requests with errors", shop.services[3]),
    ...past(2, "blip", "front answered slower than its objective for 9 s", shop.services[1]),
    ...past(5, "resolved", "nginx refused connections", shop.services[0]),
  ];
  const incident = incidentOf(shop);
  if (incident === null) return Object.fromEntries(history);
  const [cause] = incident.rca?.causes ?? [];
  const open: IncidentCard = {
    id: incident.id,
    status: incident.status,
    severity: incident.severity,
    service: incident.service,
    headline: incident.headline,
    cause: cause === undefined ? null : { service: cause.service, kind: cause.kind, confidence: cause.confidence },
    impact: incident.impact,
    suspectedAt: incident.suspectedAt,
    openedAt: incident.openedAt,
    resolvedAt: null,
    members: incident.members.length,
  };
  return Object.fromEntries([[open.id, open], ...history]);
};

export const incidentOf = (shop: Shop): Incident | null => {
  if (!shop.troubled) return null;
  const find = (name: string): Made | undefined => shop.services.find((service) => service.name === name);
  const chain = (
    shop.scenario === "large" ? ["web", "orders", "orders-db"] : ["nginx", "front", "catalog", "postgres"]
  ).flatMap((name) => find(name) ?? []);
  const [first] = chain;
  const root = chain[chain.length - 1];
  if (first === undefined || root === undefined) return null;
  const t = shop.incidentAt;
  const evidence = (
    id: string,
    service: Made,
    series: string,
    text: string,
    normal: number | null,
    value: number,
    unit: Evidence["unit"],
    z: number | null,
  ): Evidence => ({ id, service: service.id, series, normal, value, unit, z, from: t, to: t + 20_000, text });
  return {
    id: "inc-7f3a",
    cluster: "demo",
    status: "open",
    severity: "critical",
    service: first.id,
    members: chain.map((service) => service.id),
    headline: `${first.name} fails 11 % of requests and is 8 times slower than normal`,
    impact: 0.112,
    onsetAt: t,
    suspectedAt: t + 2400,
    openedAt: t + 15_000,
    resolvedAt: null,
    acknowledged: null,
    silencedUntil: null,
    rca: {
      at: t + 3100,
      tookMs: 42,
      target: first.id,
      causes: [
        {
          service: root.id,
          kind: "cpu_throttling",
          confidence: "high",
          score: 0.87,
          headline: `${root.name} is throttled by its CPU limit of 0.25 cores`,
          path: chain.slice(1).map((service, n) => ({
            from: chain[n]?.id ?? service.id,
            to: service.id,
            measure: "latency",
            callerChange: 190 - n * 14,
            calleeChange: 182 - n * 12,
            share: 0.96 - n * 0.04,
            requests: service.rate,
            failedConnects: service === root ? 3.4 : 0,
          })),
          evidence: [
            evidence("e1", root, "container_cpu_throttled", "CPU throttled share of periods", 0, 0.71, "ratio", 34.2),
            evidence("e2", root, "container_cpu_usage", "CPU used, equal to the limit", 0.11, 0.25, "cores", 9.1),
            evidence("e3", root, "request_latency_p95", "Latency of its requests, p95", 2.9, 176, "ms", 28.8),
            evidence(
              "e4",
              root,
              "failed_connects",
              "Connects that its clients failed to make",
              0,
              3.4,
              "per_second",
              null,
            ),
          ],
          nextStep: `Raise the CPU limit of ${root.name} to at least 1 core (docker update --cpus 1 ${root.name}), or take the batch job off it.`,
          refutedBy:
            "The throttled share staying at 71 % after the limit was raised, or latency staying high with throttling gone.",
        },
        {
          service: chain[1]?.id ?? root.id,
          kind: "waiting_inside",
          confidence: "low",
          score: 0.08,
          headline: `${chain[1]?.name ?? root.name} waits inside itself, for instance for a lock or a pool`,
          path: [],
          evidence: [
            evidence("e5", chain[1] ?? root, "self_time", "Time not spent in calls to others", 4, 9, "ms", 2.2),
          ],
          nextStep: "Look at its thread pool.",
          refutedBy: "Its own time staying at its normal level.",
        },
      ],
      ruledOut: [
        {
          service: (find("redis") ?? find("session-cache") ?? root).id,
          reason: "latency and errors unchanged (z 0.4)",
        },
        { service: (find("cart") ?? find("baskets") ?? root).id, reason: "explains 2 % of the change" },
      ],
      gaps: ["External services are seen from the client's side only."],
    },
    timeline: [
      { at: t, kind: "onset", service: root.id, text: "Latency begins to rise" },
      { at: t + 1000, kind: "event", service: root.id, text: "CPU limit lowered from 2 to 0.25 cores" },
      { at: t + 2400, kind: "suspicion", service: first.id, text: "The fast rule suspects an outage" },
      { at: t + 3100, kind: "cause", service: root.id, text: "Cause found in 42 ms: CPU throttling" },
      { at: t + 9000, kind: "joined", service: chain[1]?.id ?? null, text: "Also breaches its objective" },
      { at: t + 15_000, kind: "opened", service: first.id, text: "Suspicion outlived 15 s: incident opened" },
      { at: t + 15_400, kind: "alert", service: null, text: "Webhook told, answered 200 after 38 ms" },
    ],
    version: 4,
  };
};
