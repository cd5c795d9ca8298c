/**
 * Whom a client's or producer's span called, by its attributes: the best known of the names that OpenTelemetry's semantic
 * conventions (old and new) give to the other end. Owned by one decoder, used for one span at a time.
 */
const NAMES = [
  "peer.service",
  "server.address",
  "net.peer.name",
  "messaging.destination.name",
  "db.system.name",
  "db.system",
  "rpc.service",
].map((name) => Buffer.from(name));

const BY_LENGTH = new Map<number, readonly number[]>();
NAMES.forEach((name, rank) => BY_LENGTH.set(name.length, [...(BY_LENGTH.get(name.length) ?? []), rank]));
const LONGEST = Math.max(...NAMES.map((name) => name.length));
const RANKS = Array.from({ length: LONGEST + 1 }, (_, length) => BY_LENGTH.get(length) ?? null);

export class Peer {
  private rank = NAMES.length;
  /** place of the value; empty when none was found */
  start = 0;
  end = 0;

  clear(): void {
    this.rank = NAMES.length;
    this.start = this.end = 0;
  }

  look(bytes: Buffer, keyStart: number, keyEnd: number, valueStart: number, valueEnd: number): void {
    const ranks = RANKS[keyEnd - keyStart] ?? null;
    if (ranks === null) return;
    for (const rank of ranks) {
      if (rank >= this.rank || NAMES[rank]?.compare(bytes, keyStart, keyEnd) !== 0) continue;
      this.rank = rank;
      this.start = valueStart;
      this.end = valueEnd;
    }
  }
}
