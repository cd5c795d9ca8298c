/**
 * Who listens where, in every network namespace that has a process. Owned by the observer, which calls `refresh` after
 * starts and exits and every few seconds. Descriptors are looked through only for sockets whose owner is not known yet,
 * at most MAX_PROCESSES per round, the rest next time. What has no visible owner is counted in `unowned`.
 */
import { expandAddress, parseFibTrie, parseIfInet6, parseListening, socketInodes } from "./sockets.ts";
import type { Process, ProcessTable } from "./ProcessTable.ts";
import type { Reader } from "./Reader.ts";

export interface Listener {
  readonly pid: number;
  readonly netns: number;
  readonly address: string;
  readonly port: number;
}

const MAX_PROCESSES = 400;

export class Listeners {
  /** sockets whose owner could not be found in the last round */
  unowned = 0;
  /** errno of the last refusal to look at descriptors, 0 when all could be seen */
  refusedErrno = 0;
  private current: readonly Listener[] = [];
  private readonly owners = new Map<number, Process>();
  private readonly reader: Reader;
  private readonly table: ProcessTable;
  private readonly proc: string;

  constructor(reader: Reader, table: ProcessTable, proc = "/proc") {
    this.reader = reader;
    this.table = table;
    this.proc = proc;
  }

  refresh(): readonly Listener[] {
    const namespaces = new Map<number, Process[]>();
    for (const process of this.table.processes.values()) {
      const members = namespaces.get(process.netns);
      if (members === undefined) namespaces.set(process.netns, [process]);
      else members.push(process);
    }
    const listeners: Listener[] = [];
    const alive = new Set<number>();
    let budget = MAX_PROCESSES;
    this.unowned = 0;
    this.refusedErrno = 0;
    for (const [netns, members] of namespaces) {
      const view = this.readNamespace(members);
      if (view === null) continue;
      const missing = new Set<number>();
      for (const socket of view.sockets) {
        alive.add(socket.inode);
        const owner = this.owners.get(socket.inode);
        if (owner === undefined || this.table.processes.get(owner.pid)?.startTicks !== owner.startTicks)
          missing.add(socket.inode);
      }
      if (missing.size > 0) budget = this.findOwners(missing, members, budget);
      this.unowned += missing.size;
      for (const socket of view.sockets) {
        const owner = missing.has(socket.inode) ? undefined : this.owners.get(socket.inode);
        if (owner === undefined) continue;
        for (const address of expandAddress(socket.address, view.ipv4, view.ipv6))
          listeners.push({ pid: owner.pid, netns, address, port: socket.port });
      }
    }
    for (const inode of this.owners.keys()) if (!alive.has(inode)) this.owners.delete(inode);
    this.current = listeners;
    return listeners;
  }

  get all(): readonly Listener[] {
    return this.current;
  }

  /** Any process shows its whole namespace; the first may have ended meanwhile. */
  private readNamespace(members: readonly Process[]) {
    for (const { pid } of members.slice(0, 3)) {
      const folder = `${this.proc}/${pid}/net`;
      const tcp = this.reader.text(`${folder}/tcp`);
      if (tcp === null) continue;
      const sockets = parseListening(tcp);
      const tcp6 = this.reader.text(`${folder}/tcp6`);
      if (tcp6 !== null) sockets.push(...parseListening(tcp6));
      const fib = sockets.length > 0 ? this.reader.text(`${folder}/fib_trie`) : null;
      const inet6 = sockets.length > 0 ? this.reader.text(`${folder}/if_inet6`) : null;
      return {
        sockets,
        ipv4: fib === null ? [] : parseFibTrie(fib),
        ipv6: inet6 === null ? [] : parseIfInet6(inet6),
      };
    }
    return null;
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
