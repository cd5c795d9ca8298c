/**
 * Who listens where, in every network namespace that has a process. Owned by the observer, which marks a namespace when a
 * process in it starts or ends and calls `refresh` once a second. One look at a namespace walks the kernel's whole socket
 * table (1.6 ms at 262,144 buckets), so looks are spaced and at most MAX_LOOKS happen per second; descriptors are looked
 * through only for sockets without a known owner. What has no visible owner is counted in `unowned`.
 */
import {
  expandAddress,
  parseFibTrie,
  parseIfInet6,
  parseListening,
  socketInodes,
  type ListeningSocket,
} from "./sockets.ts";
import type { Process, ProcessTable } from "./ProcessTable.ts";
import type { Reader } from "./Reader.ts";

export interface Listener {
  readonly pid: number;
  readonly netns: number;
  readonly address: string;
  readonly port: number;
}

const MAX_PROCESSES = 400;
const MAX_LOOKS = 4;
/** between two looks at one namespace: after a start or end, while they go on and on, and without */
const LOOK_AFTER_CHANGE_MS = 2_000;
const LOOK_AMID_CHANGES_MS = 5_000;
const LOOK_EVERY_MS = 10_000;
/** a socket whose owner was nowhere to be seen is sought again after twice this, then ever more rarely */
const HIDDEN_MS = 2_000;
const HIDDEN_MAX_MS = 60_000;
/** programs take their time between their start and their first listen */
const CHANGE_LASTS_MS = 6_000;

interface Namespace {
  changedMs: number;
  lookedMs: number;
  /** looks in a row that followed a change */
  streak: number;
  unowned: number;
  listeners: readonly Listener[];
  readonly tcp: Family;
  readonly tcp6: Family;
}

/** What a socket list said, and the count of sockets in use when it did: the same count later spares the walk. */
interface Family {
  inUse: number;
  age: number;
  sockets: readonly ListeningSocket[];
}

/** After so many looks a list is read again, whatever the count says. */
const TRUST_LOOKS = 6;
/** The kernel fills what we ask for before it stops, so a few rows at a time spare it the way through all sockets. */
const ROWS_BYTES = 600;

const family = (): Family => ({ inUse: -1, age: 0, sockets: [] });
const pastListening = (text: string): boolean =>
  / [0-9A-F]{8,32}:[0-9A-F]{4} [0-9A-F]{8,32}:[0-9A-F]{4} (?!0A)/.test(text);

export class Listeners {
  /** errno of the last process that did not show its descriptors, 0 when none refused */
  refusedErrno = 0;
  private readonly namespaces = new Map<number, Namespace>();
  private readonly owners = new Map<number, Process>();
  /** sockets without a visible owner, and when to look again */
  private readonly hidden = new Map<number, { readonly tries: number; readonly untilMs: number }>();
  private readonly reader: Reader;
  private readonly table: ProcessTable;
  private readonly proc: string;

  constructor(reader: Reader, table: ProcessTable, proc = "/proc") {
    this.reader = reader;
    this.table = table;
    this.proc = proc;
  }

  changed(netns: number, nowMs: number): void {
    const namespace = this.namespaces.get(netns);
    if (namespace !== undefined) namespace.changedMs = nowMs;
  }

  /** Looks where it is due; true when a look happened. */
  refresh(nowMs: number): boolean {
    const members = new Map<number, Process[]>();
    for (const process of this.table.processes.values()) {
      // A namespace that may not be told is one of the others: looking again in its name would find sockets without owner.
      if (process.netns === 0) continue;
      const known = members.get(process.netns);
      if (known === undefined) members.set(process.netns, [process]);
      else known.push(process);
    }
    let looked = false;
    for (const netns of this.namespaces.keys())
      if (!members.has(netns)) looked = this.namespaces.delete(netns) || looked;
    const due: [number, Namespace][] = [];
    for (const netns of members.keys()) {
      let namespace = this.namespaces.get(netns);
      if (namespace === undefined) {
        namespace = {
          changedMs: nowMs,
          lookedMs: Number.NEGATIVE_INFINITY,
          streak: 0,
          unowned: 0,
          listeners: [],
          tcp: family(),
          tcp6: family(),
        };
        this.namespaces.set(netns, namespace);
      }
      const recent = namespace.changedMs > namespace.lookedMs || nowMs - namespace.changedMs < CHANGE_LASTS_MS;
      const wait = !recent ? LOOK_EVERY_MS : namespace.streak < 3 ? LOOK_AFTER_CHANGE_MS : LOOK_AMID_CHANGES_MS;
      if (nowMs - namespace.lookedMs < wait - 50) continue;
      namespace.streak = recent ? namespace.streak + 1 : 0;
      due.push([netns, namespace]);
    }
    due.sort((a, b) => a[1].lookedMs - b[1].lookedMs);
    let budget = MAX_PROCESSES;
    for (const [netns, namespace] of due.slice(0, MAX_LOOKS)) {
      budget = this.look(netns, namespace, members.get(netns) ?? [], budget, nowMs);
      namespace.lookedMs = nowMs;
      looked = true;
    }
    for (const [inode, { untilMs }] of this.hidden) if (nowMs - untilMs > HIDDEN_MAX_MS) this.hidden.delete(inode);
    if (looked)
      for (const [inode, owner] of this.owners)
        if (this.table.processes.get(owner.pid)?.startTicks !== owner.startTicks) this.owners.delete(inode);
    return looked;
  }

  *all(): Generator<Listener> {
    for (const namespace of this.namespaces.values()) yield* namespace.listeners;
  }

  /** sockets whose owner could not be found */
  get unowned(): number {
    let sum = 0;
    for (const namespace of this.namespaces.values()) sum += namespace.unowned;
    return sum;
  }

  private look(
    netns: number,
    namespace: Namespace,
    members: readonly Process[],
    budget: number,
    nowMs: number,
  ): number {
    const view = this.readNamespace(namespace, members);
    if (view === null) return budget;
    const missing = new Set<number>();
    for (const { inode } of view.sockets) if (!this.ownerAlive(inode)) missing.add(inode);
    const due = [...missing].filter((inode) => (this.hidden.get(inode)?.untilMs ?? 0) <= nowMs);
    const sought = new Set(due);
    const left = sought.size > 0 ? this.findOwners(sought, members, budget) : budget;
    for (const inode of due) {
      if (!sought.has(inode)) {
        missing.delete(inode);
        this.hidden.delete(inode);
      } else if (left > 0) {
        // Looked everywhere: its process is hidden, or so young that it is not known yet.
        const tries = (this.hidden.get(inode)?.tries ?? 0) + 1;
        this.hidden.set(inode, { tries, untilMs: nowMs + Math.min(HIDDEN_MAX_MS, HIDDEN_MS * 2 ** tries) });
      }
    }
    namespace.unowned = missing.size;
    const listeners: Listener[] = [];
    for (const socket of view.sockets) {
      const owner = missing.has(socket.inode) ? undefined : this.owners.get(socket.inode);
      if (owner === undefined) continue;
      for (const address of expandAddress(socket.address, view.ipv4, view.ipv6))
        listeners.push({ pid: owner.pid, netns, address, port: socket.port });
    }
    namespace.listeners = listeners;
    return left;
  }

  /** Any process shows its whole namespace; the first may have ended meanwhile. */
  private readNamespace(namespace: Namespace, members: readonly Process[]) {
    for (const { pid } of members.slice(0, 3)) {
      const folder = `${this.proc}/${pid}/net`;
      const inUse = this.inUse(`${folder}/sockstat`, "TCP");
      if (inUse === null) continue;
      this.readFamily(namespace.tcp, inUse, `${folder}/tcp`);
      this.readFamily(namespace.tcp6, this.inUse(`${folder}/sockstat6`, "TCP6") ?? 0, `${folder}/tcp6`);
      const sockets = [...namespace.tcp.sockets, ...namespace.tcp6.sockets];
      const any = (address: string): boolean => sockets.some((socket) => socket.address === address);
      const fib = any("0.0.0.0") || any("::") ? this.reader.text(`${folder}/fib_trie`) : null;
      const inet6 = any("::") ? this.reader.text(`${folder}/if_inet6`) : null;
      return {
        sockets,
        ipv4: fib === null ? [] : parseFibTrie(fib),
        ipv6: inet6 === null ? [] : parseIfInet6(inet6),
      };
    }
    return null;
  }

  private readFamily(known: Family, inUse: number, path: string): void {
    const same = known.inUse === inUse && known.age < TRUST_LOOKS;
    // A listener that was restarted leaves the count as it was.
    if (same && known.sockets.every(({ inode }) => this.ownerAlive(inode))) {
      known.age++;
      return;
    }
    known.inUse = inUse;
    known.age = 0;
    known.sockets = inUse === 0 ? [] : parseListening(this.reader.head(path, ROWS_BYTES, pastListening));
  }

  private ownerAlive(inode: number): boolean {
    const owner = this.owners.get(inode);
    return owner !== undefined && this.table.processes.get(owner.pid)?.startTicks === owner.startTicks;
  }

  private inUse(path: string, protocol: string): number | null {
    const text = this.reader.text(path);
    return text === null ? null : Number(new RegExp(`^${protocol}: inuse (\\d+)`, "m").exec(text)?.[1] ?? 0);
  }

  /** Removes what it finds from `missing`; gives back what is left of the budget. */
  private findOwners(missing: Set<number>, members: readonly Process[], budget: number): number {
    let left = budget;
    // Init holds the sockets of units that it starts on demand, so it is asked last; parents before their workers.
    const order = members.toSorted((a, b) => Number(a.pid === 1) - Number(b.pid === 1) || a.startTicks - b.startTicks);
    for (const process of order) {
      if (missing.size === 0 || left === 0) break;
      left--;
      const { inodes, errno } = socketInodes(this.proc, process.pid);
      if (errno === 13 || errno === 1) this.refusedErrno = errno;
      for (const inode of inodes) if (missing.delete(inode)) this.owners.set(inode, process);
    }
    return left;
  }
}
