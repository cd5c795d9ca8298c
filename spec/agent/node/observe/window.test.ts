/** Windows that are sent again minutes later, on another connection, to a server that has heard nothing before. */
import { expect, it } from "vitest";
import { RING } from "../../../../agent/node/link/step.ts";
import { Catalog, Dictionary, type Window } from "../../../../agent/node/observe/Window.ts";
import { ROLE, type EdgeDefinition, type InstanceDefinition } from "../../../../schemas/wire/observe.ts";

const window = (number: number, what: Partial<Window> = {}): Window => ({
  window: number,
  monoMs: number * 1000,
  wallMs: number * 1000,
  gone: [],
  events: [],
  listens: { version: 1, list: [] },
  edgeIds: [],
  tcp: null,
  l7: null,
  hist: null,
  pending: null,
  pairs: null,
  pairIps: null,
  usage: null,
  ...what,
});

it("bring along what they speak of, although it ended long ago, and nothing that ended before them", () => {
  const catalog = new Catalog();
  const instance = (id: number): InstanceDefinition => ({
    id,
    namespace: "n",
    kind: "Process",
    name: `p${id}`,
    instance: `p${id}`,
    exe: "",
    netns: 1,
    type: "",
    startedAtMs: 0,
  });
  const edge: EdgeDefinition = {
    id: 9,
    instance: 1,
    role: ROLE.client,
    peer: "10.0.0.1",
    port: 80,
    local: "",
    netns: 1,
  };
  for (const id of [1, 2, 3]) catalog.addInstance(instance(id));
  catalog.addEdge(edge);
  const old = window(10, { edgeIds: [9] });
  const alive = new Set([2]);
  // The third ended before the window, the first and the edge right after it.
  catalog.sweep(
    5_000,
    (id) => id !== 3,
    () => true,
  );
  for (let second = 11; second <= 10 + RING; second++)
    catalog.sweep(
      second * 1000,
      (id) => alive.has(id),
      () => false,
    );
  const dictionary = new Dictionary(catalog);
  const body = dictionary.body(old);
  expect(body.instances?.map(({ id }) => id)).toEqual([1, 2]);
  expect(body.edges?.map(({ id }) => id)).toEqual([9]);
  for (let second = 11 + RING; second < 700; second++)
    catalog.sweep(
      second * 1000,
      (id) => alive.has(id),
      () => false,
    );
  expect([catalog.instances.size, catalog.edges.size]).toEqual([1, 0]);
  // The connection hears once that nobody will speak of the edge again; another one never heard of it.
  const bodies = [dictionary, dictionary, new Dictionary(catalog)].map((one, i) => one.body(window(700 + i)));
  expect(bodies.map(({ goneEdges }) => goneEdges)).toEqual([[9], undefined, undefined]);
});
