/**
 * Finds the replica where a path lives and takes messages there. Owned by the cluster (Cluster.ts), which tells it who
 * owns which part. What cannot go now waits, bounded: for a part whose owner is not known or not connected, and for one
 * that is being loaded here. Who owns a part when its claim is in doubt is the last known owner.
 */
import { Metric } from "effect";
import type { Answer } from "../actor/Asks.ts";
import type { ActorPath } from "../actor/Behavior.ts";
import type { Parcel, Router as ActorRouter } from "../actor/Outside.ts";
import { KIND, toWire, type ReplicaFrame } from "./frames.ts";
import type { PartOf } from "./places.ts";

/** Messages that wait for an owner, all together. Beyond it the oldest give way; observations are sent again anyway. */
export const MOST_HELD = 50_000;
const MOST_PER_FRAME = 2_000;

const heldGauge = Metric.gauge("coroot_cluster_messages_held");
const droppedTotal = Metric.counter("coroot_cluster_messages_dropped_total", {
  description: "messages dropped because too many waited for the owner of their part",
  incremental: true,
});
const sentTotal = Metric.counter("coroot_cluster_messages_sent_total", { incremental: true });

export interface RouterOptions {
  readonly partOf: PartOf;
  /** false: not connected */
  readonly send: (replica: string, frame: ReplicaFrame) => boolean;
  readonly receive: (parcel: Parcel, answered: (answer: Answer) => void) => void;
  /** answers an ask of an actor here */
  readonly answer: (ask: number, answer: Answer) => void;
  readonly spawn: (path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null) => void;
  readonly stop: (path: ActorPath) => void;
  /** runs it once the messages of this turn are together */
  readonly soon: (flush: () => void) => void;
}

type Held =
  /** `answered`: takes the answer when the message came from a peer; null when it is from here */
  | { readonly kind: "parcel"; readonly parcel: Parcel; readonly answered: ((answer: Answer) => void) | null }
  | { readonly kind: "other"; readonly frame: ReplicaFrame };

interface Owner {
  readonly replica: string;
  readonly token: number;
}

export class Router implements ActorRouter {
  readonly #options: RouterOptions;
  /** parts whose actors are here: claimed, or in doubt */
  readonly #here = new Set<string>();
  readonly #owners = new Map<string, Owner>();
  readonly #sessions = new Map<ActorPath, string>();
  readonly #held = new Map<string, Held[]>();
  readonly #outbox = new Map<string, Parcel[]>();
  #heldCount = 0;
  #flushing = false;

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  // ——— what the kernel asks ———

  isHere(path: ActorPath): boolean {
    const part = this.#options.partOf(path);
    return part === null ? !this.#sessions.has(path) : this.#here.has(part);
  }

  forward(parcel: Parcel): boolean {
    const replica = this.#ownerOf(parcel.to);
    if (replica === null) return this.#hold(parcel.to, { kind: "parcel", parcel, answered: null });
    let waiting = this.#outbox.get(replica);
    if (waiting === undefined) {
      waiting = [];
      this.#outbox.set(replica, waiting);
    }
    waiting.push(parcel);
    if (!this.#flushing) {
      this.#flushing = true;
      this.#options.soon(() => this.flush());
    }
    return true;
  }

  spawn(path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null): void {
    this.#sendOther(path, [KIND.spawn, path, kind, argument, parent]);
  }

  stop(path: ActorPath): void {
    this.#sendOther(path, [KIND.stop, path]);
  }

  /** What a peer sent for an actor here; it may have moved on since. */
  arrived(parcel: Parcel, answered: (answer: Answer) => void): void {
    if (this.isHere(parcel.to)) return this.#options.receive(parcel, answered);
    const part = this.#options.partOf(parcel.to);
    if (part !== null && !this.#owners.has(part)) this.#hold(parcel.to, { kind: "parcel", parcel, answered });
    else if (parcel.ask !== 0) answered({ ok: false, error: `${parcel.to} does not live here any more` });
    else this.forward(parcel);
  }

  flush(): void {
    this.#flushing = false;
    for (const [replica, parcels] of this.#outbox) {
      this.#outbox.delete(replica);
      for (let i = 0; i < parcels.length; i += MOST_PER_FRAME) {
        const some = parcels.slice(i, i + MOST_PER_FRAME);
        if (this.#options.send(replica, [KIND.parcels, some.map(toWire)])) sentTotal.unsafeUpdate(some.length, []);
        else for (const parcel of some) this.#hold(parcel.to, { kind: "parcel", parcel, answered: null });
      }
    }
  }

  // ——— what the cluster says ———

  /** The part is ours, and its actors are on their way: messages wait for them here. */
  loading(part: string): void {
    this.#owners.delete(part);
  }

  /** The part's actors are here now, and take what waited for them. */
  settled(part: string): void {
    this.#here.add(part);
    this.#owners.delete(part);
    this.#release(part);
  }

  /** Its actors left; until another owner is known, messages wait. */
  left(part: string): void {
    this.#here.delete(part);
  }

  /** False: an owner with a newer claim is known already. */
  owned(part: string, replica: string, token: number): boolean {
    if ((this.#owners.get(part)?.token ?? -1) > token) return false;
    this.#owners.set(part, { replica, token });
    if (!this.#here.has(part)) this.#release(part);
    return true;
  }

  disowned(replica: string): void {
    for (const [part, owner] of this.#owners) if (owner.replica === replica) this.#owners.delete(part);
  }

  isOwner(replica: string, part: string): boolean {
    return this.#owners.get(part)?.replica === replica;
  }

  session(path: ActorPath, replica: string): void {
    this.#sessions.set(path, replica);
    this.#release(path);
  }

  sessionGone(path: ActorPath, replica: string): void {
    if (this.#sessions.get(path) === replica) this.#sessions.delete(path);
  }

  /** another replica has it */
  hasSession(path: ActorPath): boolean {
    return this.#sessions.has(path);
  }

  sessionsOf(replica: string): readonly ActorPath[] {
    return [...this.#sessions].filter(([, at]) => at === replica).map(([path]) => path);
  }

  /** The path is started here, whoever had it before. */
  sessionHere(path: ActorPath): void {
    this.#sessions.delete(path);
  }

  connected(replica: string): void {
    for (const key of this.#held.keys())
      if (this.#owners.get(key)?.replica === replica || this.#sessions.get(key) === replica) this.#release(key);
  }

  get held(): number {
    return this.#heldCount;
  }

  // ——— inside ———

  #ownerOf(path: ActorPath): string | null {
    const part = this.#options.partOf(path);
    return (part === null ? this.#sessions.get(path) : this.#owners.get(part)?.replica) ?? null;
  }

  #sendOther(path: ActorPath, frame: ReplicaFrame): void {
    const replica = this.#ownerOf(path);
    // Order matters: what was told before must be told before.
    this.flush();
    if (replica === null || !this.#options.send(replica, frame)) this.#hold(path, { kind: "other", frame });
  }

  #hold(path: ActorPath, held: Held): boolean {
    const key = this.#options.partOf(path) ?? path;
    let waiting = this.#held.get(key);
    if (waiting === undefined) {
      waiting = [];
      this.#held.set(key, waiting);
    }
    waiting.push(held);
    this.#heldCount++;
    if (this.#heldCount > MOST_HELD) this.#dropOne(waiting);
    heldGauge.unsafeUpdate(this.#heldCount, []);
    return true;
  }

  #dropOne(waiting: Held[]): void {
    const at = waiting.findIndex((one) => one.kind === "parcel");
    const [dropped] = waiting.splice(Math.max(0, at), 1);
    this.#heldCount--;
    droppedTotal.unsafeUpdate(1, []);
    if (dropped?.kind === "parcel") this.#answer(dropped, { ok: false, error: "too many messages wait for an owner" });
  }

  #release(key: string): void {
    const waiting = this.#held.get(key);
    if (waiting === undefined) return;
    this.#held.delete(key);
    this.#heldCount -= waiting.length;
    heldGauge.unsafeUpdate(this.#heldCount, []);
    for (const held of waiting) {
      if (held.kind === "other") this.#replay(held.frame);
      else if (this.isHere(held.parcel.to)) this.#options.receive(held.parcel, (answer) => this.#answer(held, answer));
      else if (held.answered === null || held.parcel.ask === 0) this.forward(held.parcel);
      else held.answered({ ok: false, error: `${held.parcel.to} does not live here any more` });
    }
  }

  #answer({ parcel, answered }: Extract<Held, { readonly kind: "parcel" }>, answer: Answer): void {
    if (answered !== null) answered(answer);
    else if (parcel.ask !== 0) this.#options.answer(parcel.ask, answer);
  }

  #replay(frame: ReplicaFrame): void {
    if (frame[0] === KIND.spawn) {
      const [, path, kind, argument, parent] = frame;
      if (this.isHere(path)) this.#options.spawn(path, kind, argument, parent);
      else this.spawn(path, kind, argument, parent);
    } else if (frame[0] === KIND.stop) {
      if (this.isHere(frame[1])) this.#options.stop(frame[1]);
      else this.stop(frame[1]);
    }
  }
}
