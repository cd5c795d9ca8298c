/**
 * A value for each agent that tells of an edge. Most edges are told of by one: a map is made with the second. Owned by an
 * edge's state.
 */
export class PerAgent<V> {
  #agent: string | null = null;
  #value: V | undefined = undefined;
  #more: Map<string, V> | null = null;

  get(agent: string): V | undefined {
    return agent === this.#agent ? this.#value : this.#more?.get(agent);
  }

  set(agent: string, value: V): void {
    if (agent === this.#agent) this.#value = value;
    else if (this.#agent === null && this.#more === null) {
      this.#agent = agent;
      this.#value = value;
    } else (this.#more ??= new Map()).set(agent, value);
  }

  delete(agent: string): void {
    if (agent !== this.#agent) {
      this.#more?.delete(agent);
      if (this.#more?.size === 0) this.#more = null;
      return;
    }
    this.#agent = null;
    this.#value = undefined;
  }

  *[Symbol.iterator](): IterableIterator<readonly [agent: string, value: V]> {
    if (this.#agent !== null) yield [this.#agent, this.#value as V];
    if (this.#more !== null) yield* this.#more;
  }
}
