/**
 * Who calls whom, with the first and the last evidence. A call that nothing speaks for any more expires. Each change goes
 * to the incident desk, to the copies of the map on all replicas, and to the store, where the map of a moment is read from.
 * Owned by the topology actor.
 */
import { send, type ActorEffect } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { rows } from "../rows.ts";
import { INCIDENT_DESK } from "../service/messages.ts";
import type { GraphEdge } from "./messages.ts";

export const CALL_EXPIRES_MS = 10 * 60_000;
/** Of a call that goes on: so often its last evidence is written down, and the copies told. */
export const WRITTEN_EVERY_MS = 5 * 60_000;
const MOST_CALLS = 200_000;

/** Board "topology", key "<from>><to>". */
export interface CallView {
  readonly from: ServiceId;
  readonly to: ServiceId;
  readonly first: number;
  readonly last: number;
}

interface Call {
  readonly from: ServiceId;
  readonly to: ServiceId;
  first: number;
  last: number;
  told: number;
}

export const TOPOLOGY_BOARD = "topology";

export class Calls {
  readonly #calls = new Map<string, Call>();
  dropped = 0;

  get size(): number {
    return this.#calls.size;
  }

  pairs(): (readonly [from: ServiceId, to: ServiceId])[] {
    return [...this.#calls.values()].map(({ from, to }) => [from, to] as const);
  }

  seen(from: ServiceId, to: ServiceId, at: number): ActorEffect[] {
    const key = `${from}>${to}`;
    const known = this.#calls.get(key);
    if (known === undefined) {
      if (this.#calls.size >= MOST_CALLS) {
        this.dropped++;
        return [];
      }
      const call: Call = { from, to, first: at, last: at, told: at };
      this.#calls.set(key, call);
      const graph: GraphEdge = { type: "graph", from, to };
      return [send(INCIDENT_DESK, graph), ...told(key, call)];
    }
    known.first = Math.min(known.first, at);
    known.last = Math.max(known.last, at);
    if (known.last - known.told < WRITTEN_EVERY_MS) return [];
    known.told = known.last;
    return told(key, known);
  }

  expire(now: number): ActorEffect[] {
    const effects: ActorEffect[] = [];
    for (const [key, call] of this.#calls) {
      if (now - call.last < CALL_EXPIRES_MS) continue;
      this.#calls.delete(key);
      const graph: GraphEdge = { type: "graph", from: call.from, to: call.to, gone: true };
      effects.push(
        send(INCIDENT_DESK, graph),
        { kind: "publish", board: TOPOLOGY_BOARD, key, value: null },
        rowOf(call),
      );
    }
    return effects;
  }

  view(most: number): string[] {
    return [...this.#calls.values()].slice(0, most).map(({ from, to }) => `${from} → ${to}`);
  }
}

const told = (key: string, call: Call): ActorEffect[] => {
  const { from, to, first, last } = call;
  const value: CallView = { from, to, first, last };
  return [{ kind: "publish", board: TOPOLOGY_BOARD, key, value }, rowOf(call)];
};

const rowOf = ({ from, to, first, last }: Call): ActorEffect =>
  rows("map_edges", [{ source: from, target: to, first, last, version: last }]);
