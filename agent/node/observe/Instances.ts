/**
 * Instances: what runs on the node, as the server sees it. A unit or container is one instance; processes without either
 * form families (a process and its descendants of the same program). Owned by the observer; free of I/O, so that births,
 * deaths and restarts are tested on plain records. Ids are never used twice; the dead stay for GONE_AFTER windows so that
 * their last counts still have an owner.
 */
import type { InstanceDefinition, InstanceEvent, OomSizes } from "../../../schemas/wire/observe.ts";
import type { Identity } from "../identity/identify.ts";

/** The part of a process that instances depend on. */
export interface Member {
  readonly pid: number;
  readonly ppid: number;
  readonly startTicks: number;
  readonly startedAtMs: number;
  readonly netns: number;
  readonly identity: Identity;
}

export interface Instance<P extends Member = Member> {
  readonly id: number;
  identity: Identity;
  readonly slot: string;
  /** null until the container runtime told the name */
  name: string | null;
  namespace: string;
  readonly startedAtMs: number;
  readonly netns: number;
  readonly bornMs: number;
  readonly members: Map<number, P>;
  oldest: P;
  /** the oldest process ended while others lived: the next one to start is a restart */
  headLost: number | null;
  listens: boolean;
  talks: boolean;
  reported: boolean;
  diedMs: number | null;
  /** increase since last taken, and since the beginning */
  restarts: number;
  restartsTotal: number;
}

/** A process without unit or container is a service of its own once it has lived this long (or listens, or talks). */
export const REPORT_AFTER_MS = 10_000;
const GONE_AFTER_MS = 2_000;
const REMEMBER_DEATH_MS = 10 * 60_000;
const MAX_DEATHS = 2_000;

const MAX_DEPARTED = 5_000;
const EXPLAIN_MS = 1_500;
const KEEP_DEPARTED_MS = 60_000;

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: number | null;
  readonly atMs: number;
}

interface Departed<P extends Member> {
  readonly instance: Instance<P>;
  readonly atMs: number;
  readonly nowMs: number;
  readonly left: number;
  told: boolean;
}

export interface InstancesOptions<P extends Member> {
  /** called once per container whose name must be asked for */
  readonly onContainer?: (instance: Instance<P>) => void;
}

export class Instances<P extends Member = Member> {
  readonly all = new Map<number, Instance<P>>();
  private readonly live = new Map<string, Instance<P>>();
  private readonly byPid = new Map<number, Instance<P>>();
  /** when the last instance of a service (or unit, or container) died */
  private readonly deaths = new Map<string, number>();
  private readonly departed = new Map<number, Departed<P>>();
  private nextId = 1;
  /** wall clock of the first look */
  private sinceMs: number | null = null;
  private readonly options: InstancesOptions<P>;
  readonly events: InstanceEvent[] = [];
  readonly gone: number[] = [];

  constructor(options: InstancesOptions<P> = {}) {
    this.options = options;
  }

  ofPid(pid: number): Instance<P> | null {
    return this.byPid.get(pid) ?? null;
  }

  /** As `ofPid`, also for a process that ended within the last minute: its last rows and its victim report come late. */
  ofRecentPid(pid: number): Instance<P> | null {
    return this.byPid.get(pid) ?? this.departed.get(pid)?.instance ?? null;
  }

  join(member: P, nowMs: number): Instance<P> {
    const { identity } = member;
    const parent = this.byPid.get(member.ppid);
    const family =
      identity.instance === null &&
      parent !== undefined &&
      parent.identity.kind === "Process" &&
      parent.identity.name === identity.name &&
      parent.identity.exe === identity.exe
        ? parent
        : undefined;
    const slot = identity.instance ?? `${family?.slot ?? member.pid}`;
    const known = family ?? this.live.get(keyOf(identity, slot));
    if (known !== undefined && known.diedMs === null) {
      known.members.set(member.pid, member);
      this.byPid.set(member.pid, known);
      if (known.headLost !== null && member.startTicks > known.oldest.startTicks) {
        known.headLost = null;
        this.restarted(known);
      }
      if (member.startTicks < known.oldest.startTicks) known.oldest = member;
      return known;
    }
    const instance: Instance<P> = {
      id: this.nextId++,
      identity,
      slot,
      name: identity.container === null ? identity.name : null,
      namespace: identity.namespace,
      startedAtMs: member.startedAtMs,
      netns: member.netns,
      bornMs: nowMs,
      members: new Map([[member.pid, member]]),
      oldest: member,
      headLost: null,
      listens: false,
      talks: false,
      reported: false,
      diedMs: null,
      restarts: 0,
      restartsTotal: 0,
    };
    this.all.set(instance.id, instance);
    this.live.set(keyOf(identity, slot), instance);
    this.byPid.set(member.pid, instance);
    const death = deathKey(identity);
    if (this.deaths.delete(death)) this.restarted(instance);
    if (identity.container !== null) this.options.onContainer?.(instance);
    return instance;
  }

  /**
   * A process ended. Its exit event waits until the kernel's word on how it ended (`exited`), at most EXPLAIN_MS where
   * `explained` says that one may come.
   */
  leave(pid: number, nowMs: number, atMs: number, explained: boolean): Instance<P> | null {
    const instance = this.byPid.get(pid);
    if (instance === undefined) return null;
    this.part(instance, pid, nowMs);
    if (this.departed.size >= MAX_DEPARTED)
      for (const [old, entry] of this.departed) if (entry.told) this.departed.delete(old);
    const departed = { instance, atMs, nowMs, left: instance.members.size, told: false };
    this.departed.set(pid, departed);
    if (!explained) this.tell(pid, departed, { code: null, signal: null, atMs });
    return instance;
  }

  /** The kernel's word on how a process ended. */
  exited(pid: number, exit: Exit): void {
    const departed = this.departed.get(pid);
    if (departed !== undefined && !departed.told) this.tell(pid, departed, exit);
  }

  private tell(pid: number, departed: Departed<P>, exit: Exit): void {
    departed.told = true;
    if (departed.instance.reported)
      this.events.push({ kind: "exit", instance: departed.instance.id, pid, ...exit, left: departed.left });
  }

  private part(instance: Instance<P>, pid: number, nowMs: number): void {
    this.byPid.delete(pid);
    const member = instance.members.get(pid);
    instance.members.delete(pid);
    if (instance.members.size === 0) {
      instance.diedMs = nowMs;
      const key = keyOf(instance.identity, instance.slot);
      if (this.live.get(key) === instance) this.live.delete(key);
      if (instance.reported) {
        if (this.deaths.size >= MAX_DEATHS)
          for (const [death, at] of this.deaths) if (nowMs - at > REMEMBER_DEATH_MS) this.deaths.delete(death);
        this.deaths.set(deathKey(instance.identity), nowMs);
      }
    } else if (member === instance.oldest) {
      let oldest: P | null = null;
      for (const other of instance.members.values())
        if (oldest === null || other.startTicks < oldest.startTicks) oldest = other;
      if (oldest !== null) instance.oldest = oldest;
      // A child that outlives its parent is no restart; one that starts after the parent's end is.
      instance.headLost = nowMs;
    }
  }

  /** The same process with another program: still the same unit or container, else another family. */
  replace(before: P, after: P, nowMs: number): Instance<P> {
    const instance = this.byPid.get(before.pid);
    const same =
      instance !== undefined &&
      after.identity.instance !== null &&
      keyOf(instance.identity, instance.slot) === keyOf(after.identity, after.identity.instance);
    if (!same) {
      if (instance !== undefined) this.part(instance, before.pid, nowMs);
      return this.join(after, nowMs);
    }
    instance.members.set(after.pid, after);
    if (instance.oldest === before) {
      instance.oldest = after;
      if (!instance.reported) instance.identity = after.identity;
    }
    return instance;
  }

  named(instance: Instance<P>, name: string, namespace: string | null): void {
    instance.name = name;
    if (namespace !== null) instance.namespace = namespace;
  }

  oom(instance: Instance<P>, pid: number, sizes: OomSizes, atMs: number): void {
    if (instance.reported) this.events.push({ kind: "oom", instance: instance.id, atMs, pid, ...sizes });
  }

  overflowed(instance: Instance<P>, what: { port: number; count: number; limit: number }, atMs: number): void {
    if (instance.reported) this.events.push({ kind: "overflow", instance: instance.id, atMs, ...what });
  }

  /** Decides what is reported from now on, and which of the dead are gone. `atMs` is the wall clock for events. */
  settle(nowMs: number, atMs: number): void {
    const sinceMs = (this.sinceMs ??= atMs);
    for (const [pid, entry] of this.departed) {
      if (!entry.told && nowMs - entry.nowMs >= EXPLAIN_MS)
        this.tell(pid, entry, { code: null, signal: null, atMs: entry.atMs });
      if (nowMs - entry.nowMs >= KEEP_DEPARTED_MS) this.departed.delete(pid);
    }
    for (const instance of this.all.values()) {
      if (!instance.reported && this.mayReport(instance, nowMs)) {
        instance.reported = true;
        // What ran before the agent did is no news.
        if (instance.startedAtMs > sinceMs)
          this.events.push({ kind: "start", instance: instance.id, atMs: Math.min(atMs, instance.startedAtMs) });
      }
      if (instance.diedMs !== null && nowMs - instance.diedMs >= GONE_AFTER_MS) {
        this.all.delete(instance.id);
        if (instance.reported) this.gone.push(instance.id);
      }
    }
    for (const [death, at] of this.deaths) {
      if (nowMs - at <= REMEMBER_DEATH_MS) break;
      this.deaths.delete(death);
    }
  }

  private mayReport(instance: Instance<P>, nowMs: number): boolean {
    if (instance.name === null) return false;
    // What was shown before it died is shown as soon as it is back.
    if (instance.listens || instance.talks || instance.restartsTotal > 0) return true;
    if (instance.identity.quiet || instance.diedMs !== null) return false;
    return instance.identity.kind !== "Process" || nowMs - instance.bornMs >= REPORT_AFTER_MS;
  }

  private restarted(instance: Instance<P>): void {
    instance.restarts++;
    instance.restartsTotal++;
  }
}

const keyOf = (identity: Identity, slot: string): string => `${identity.kind}\0${identity.name}\0${slot}`;
/** Units and containers come back under their own name, processes with another pid. */
const deathKey = (identity: Identity): string => keyOf(identity, identity.instance ?? identity.exe);

export const definitionOf = (instance: Instance): InstanceDefinition => ({
  id: instance.id,
  namespace: instance.namespace,
  kind: instance.identity.kind,
  name: instance.name ?? instance.identity.name,
  instance: instance.slot,
  exe: instance.identity.exe,
  netns: instance.netns,
  type: instance.identity.type,
  startedAtMs: instance.startedAtMs,
});
