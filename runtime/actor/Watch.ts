/**
 * What the console sees: rows, one actor's state and what it was a minute ago, and the way of one message through the
 * actors. Reads the kernel's cells; measures only while somebody looks and for a few seconds after. Holds nothing else.
 */
import type { ActorMessageView, ActorView, TraceHop } from "../../schemas/wire/page.ts";
import type { ActorPath } from "./Behavior.ts";
import type { Cell } from "./Cell.ts";
import type { Envelope } from "./Mailbox.ts";
import { maskSecrets } from "./mask.ts";
import { Measure, remember } from "./Measure.ts";

/** Measuring goes on this long after the console last looked. */
const MEASURE_FOR_MS = 5_000;
/** Sizes of states are taken by turns, since each costs a walk over the state. */
const SIZED_PER_LOOK = 25;
const HOPS = 4_096;
const MINUTE_MS = 60_000;
const REMEMBER_EVERY_MS = 5_000;
const FORGET_AFTER_MS = 10_000;

export interface Inspected {
  readonly row: ActorView;
  readonly state: unknown;
  /** the state a minute ago, once it was watched for that long */
  readonly before: { readonly at: number; readonly state: unknown } | null;
  readonly recent: readonly ActorMessageView[];
}

interface Watched {
  lookedAt: number;
  readonly states: { readonly at: number; readonly state: unknown }[];
}

export class Watch {
  readonly #cells: ReadonlyMap<ActorPath, Cell>;
  readonly #now: () => number;
  readonly #hops: TraceHop[] = [];
  readonly #watched = new Map<ActorPath, Watched>();
  #until = 0;
  #sizedNext = 0;
  node = "";

  constructor(cells: ReadonlyMap<ActorPath, Cell>, now: () => number) {
    this.#cells = cells;
    this.#now = now;
  }

  /** Checked for each message, so it costs nothing while nobody looks. */
  get measuring(): boolean {
    return this.#until > 0 && this.#now() < this.#until;
  }

  look(): number {
    const at = this.#now();
    this.#until = at + MEASURE_FOR_MS;
    return at;
  }

  /** Ten times a second. */
  beat(at: number): void {
    for (const [path, watched] of this.#watched)
      if (at - watched.lookedAt > FORGET_AFTER_MS) this.#watched.delete(path);
    if (this.#until === 0 || at <= this.#until) return;
    this.#until = 0;
    this.#hops.length = 0;
    for (const cell of this.#cells.values()) cell.measure = null;
  }

  handled(cell: Cell, envelope: Envelope, at: number, handleMs: number, error: string | null): void {
    const { message, from, trace } = envelope;
    const waitMs = at - envelope.at;
    this.#measureOf(cell, at).handled({ at, type: message.type, from, trace, waitMs, handleMs, error });
    remember(
      this.#hops,
      { at, node: this.node, path: cell.path, type: message.type, from, trace, waitMs, handleMs, error },
      HOPS,
    );
  }

  views(): readonly ActorView[] {
    const at = this.look();
    const all = [...this.#cells.values()];
    for (let i = 0; i < Math.min(SIZED_PER_LOOK, all.length); i++) {
      const cell = all[this.#sizedNext++ % all.length];
      if (cell !== undefined) this.#measureOf(cell, at).size(cell.behavior.inspect(cell.state));
    }
    return all.map((cell) => this.#view(cell, at));
  }

  inspect(path: ActorPath): Inspected | null {
    const cell = this.#cells.get(path);
    if (cell === undefined) return null;
    const at = this.look();
    const state = maskSecrets(cell.behavior.inspect(cell.state));
    const measure = this.#measureOf(cell, at);
    measure.size(state);
    const before = this.#before(path, at, state);
    return { row: this.#view(cell, at), state, before, recent: [...measure.recent] };
  }

  /** Where the message went that has this trace, as far as it was measured here; oldest first. */
  trace(trace: number): readonly TraceHop[] {
    this.look();
    return this.#hops.filter((hop) => hop.trace === trace);
  }

  #before(path: ActorPath, at: number, state: unknown): Inspected["before"] {
    const watched = this.#watched.get(path) ?? { lookedAt: at, states: [] };
    this.#watched.set(path, watched);
    watched.lookedAt = at;
    const { states } = watched;
    const last = states.at(-1);
    if (last === undefined || at - last.at >= REMEMBER_EVERY_MS) states.push({ at, state: structuredClone(state) });
    while ((states[1]?.at ?? at) <= at - MINUTE_MS) states.shift();
    const first = states[0];
    return first !== undefined && first.at <= at - MINUTE_MS ? first : null;
  }

  #measureOf(cell: Cell, at: number): Measure {
    cell.measure ??= new Measure(at, cell.handled, cell.sent);
    return cell.measure;
  }

  #view(cell: Cell, at: number): ActorView {
    const measure = this.#measureOf(cell, at);
    measure.count(at, cell.handled, cell.sent);
    return {
      path: cell.path,
      kind: cell.behavior.kind,
      parent: cell.parent,
      node: this.node,
      state: stateOf(cell, at),
      startedAt: cell.startedAt,
      mailbox: cell.mailbox.length,
      mailboxBound: cell.mailbox.bound,
      mailboxWaitP95Ms: measure.waitP95Ms,
      handleP95Ms: measure.handleP95Ms,
      inPerSecond: measure.inPerSecond,
      outPerSecond: measure.outPerSecond,
      handled: cell.handled,
      merged: cell.merged,
      shed: cell.shed,
      restarts: cell.restarts,
      stateBytes: measure.stateBytes,
      lastError: cell.lastError,
      deadLetters: cell.deadLetters,
    };
  }
}

const stateOf = (cell: Cell, at: number): ActorView["state"] => {
  if (cell.stopping) return "stopping";
  if (cell.paused) return "paused";
  if (cell.quarantinedUntil > at) return "quarantined";
  return cell.running ? "running" : "idle";
};
