/**
 * Reads small kernel files (/proc, cgroups) into one reused buffer. Owned by the node agent's sampling loop, which is
 * synchronous, so a result is valid until the next read. Files read every second keep their descriptor (bounded; above
 * the bound they are opened each time). A missing file is a negative errno, never an exception; `close` frees all.
 */
import { closeSync, openSync, readSync } from "node:fs";

export const errnoOf = (error: unknown): number => {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  return typeof errno === "number" ? Math.abs(errno) : 5;
};

/** A file whose descriptor is kept between reads. For /proc/PID it stays bound to that very process. */
export interface KeptFile {
  readonly path: string;
  fd: number;
}

const MAX_KEPT = 1_500;
const BUFFER_BYTES = 128 * 1024;

export class Reader {
  readonly buffer = Buffer.alloc(BUFFER_BYTES);
  /** descriptors kept now */
  kept = 0;
  reads = 0;
  /** errno of the last list that could not be read whole */
  lastErrno = 0;

  /** Bytes now in `buffer`, or minus errno. */
  read(path: string): number {
    let fd: number;
    try {
      fd = openSync(path, "r");
    } catch (error) {
      return -errnoOf(error);
    }
    try {
      return this.fill(fd);
    } finally {
      closeSync(fd);
    }
  }

  text(path: string): string | null {
    const length = this.read(path);
    return length < 0 ? null : this.buffer.toString("latin1", 0, length);
  }

  /** The beginning of a list, asked for piece by piece until `enough` of it came; "" when unreadable. */
  head(path: string, pieceBytes: number, enough: (text: string) => boolean): string {
    let fd: number;
    try {
      fd = openSync(path, "r");
    } catch (error) {
      this.lastErrno = errnoOf(error);
      return "";
    }
    let text = "";
    try {
      for (;;) {
        const n = readSync(fd, this.buffer, 0, pieceBytes, null);
        this.reads++;
        if (n === 0) return text;
        const piece = this.buffer.toString("latin1", 0, n);
        text += piece;
        if (enough(piece)) return text;
      }
    } catch (error) {
      this.lastErrno = errnoOf(error);
      return text;
    } finally {
      closeSync(fd);
    }
  }

  keep(path: string): KeptFile {
    return { path, fd: -1 };
  }

  readKept(file: KeptFile): number {
    if (file.fd < 0) {
      if (this.kept >= MAX_KEPT) return this.read(file.path);
      try {
        file.fd = openSync(file.path, "r");
        this.kept++;
      } catch (error) {
        return -errnoOf(error);
      }
    }
    const length = this.fill(file.fd);
    if (length < 0) this.release(file);
    return length;
  }

  release(file: KeptFile): void {
    if (file.fd < 0) return;
    const fd = file.fd;
    file.fd = -1;
    this.kept--;
    closeSync(fd);
  }

  /** Kernel files answer in pages, so one read is not always all. */
  private fill(fd: number): number {
    this.reads++;
    let length = 0;
    try {
      while (length < BUFFER_BYTES) {
        const n = readSync(fd, this.buffer, length, BUFFER_BYTES - length, length);
        length += n;
        if (n === 0 || n < 1024) break;
      }
      return length;
    } catch (error) {
      return -errnoOf(error);
    }
  }
}

/** The unsigned number at `from` in `bytes`, reading digits until something else. */
export const digits = (bytes: Uint8Array, from: number): number => {
  let value = 0;
  for (let i = from; ; i++) {
    const digit = (bytes[i] ?? 0) - 48;
    if (digit < 0 || digit > 9) return value;
    value = value * 10 + digit;
  }
};

/** The number after `key` at a line's start in a `key value` file (cpu.stat, memory.stat, …), or null. */
export const keyed = (text: string, key: string): number | null => {
  let at = text.startsWith(`${key} `) ? 0 : text.indexOf(`\n${key} `);
  if (at < 0) return null;
  if (at > 0) at++;
  const value = Number.parseFloat(text.slice(at + key.length + 1, at + key.length + 25));
  return Number.isFinite(value) ? value : null;
};
