/** Who calls whom, as far as it was ever seen: enough for the desk to tell which symptoms belong together. */
import type { ServiceId } from "../../schemas/service.ts";

const MOST_STEPS = 12;

export class CallGraph {
  readonly #calls = new Map<ServiceId, Set<ServiceId>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(from: ServiceId, to: ServiceId): void {
    const callees = this.#calls.get(from) ?? new Set();
    if (callees.has(to)) return;
    callees.add(to);
    this.#calls.set(from, callees);
    this.#size++;
  }

  remove(from: ServiceId, to: ServiceId): void {
    if (this.#calls.get(from)?.delete(to) === true) this.#size--;
  }

  /** Whether requests of `from` can end up at `to`. */
  reaches(from: ServiceId, to: ServiceId): boolean {
    const seen = new Set<ServiceId>([from]);
    let level = [from];
    for (let step = 0; step < MOST_STEPS && level.length > 0; step++) {
      const next: ServiceId[] = [];
      for (const service of level)
        for (const callee of this.#calls.get(service) ?? []) {
          if (callee === to) return true;
          if (seen.has(callee)) continue;
          seen.add(callee);
          next.push(callee);
        }
      level = next;
    }
    return false;
  }

  /** Whether one of them is upstream or downstream of the service. */
  related(service: ServiceId, others: readonly ServiceId[]): boolean {
    return others.some((other) => this.reaches(service, other) || this.reaches(other, service));
  }
}
