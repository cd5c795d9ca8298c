/**
 * Stacks of services that were looked at, by hash, so that a flame graph reads only numbers from the store. Owned by
 * Profiles. A stack never changes under its hash. Bounded in bytes: services that were not looked at for longest are
 * forgotten. Nothing to stop.
 */
export class ServiceStacks {
  /** "name<tab>file" by number */
  readonly functions: string[] = [];
  bytes = 0;
  private readonly numbers = new Map<string, number>();
  private readonly stacks = new Map<string, Int32Array>();

  get(hash: string): Int32Array | null {
    return this.stacks.get(hash) ?? null;
  }

  /** Frames as the store has them; lines are not told apart. */
  add(hash: string, frames: readonly string[]): void {
    if (this.stacks.has(hash)) return;
    const stack = new Int32Array(frames.length);
    for (let i = 0; i < frames.length; i++) stack[i] = this.number(withoutLine(frames[i] ?? ""));
    this.stacks.set(hash, stack);
    this.bytes += STACK_BYTES + stack.byteLength;
  }

  private number(name: string): number {
    const found = this.numbers.get(name);
    if (found !== undefined) return found;
    const number = this.functions.length;
    this.functions.push(name);
    this.numbers.set(name, number);
    this.bytes += NAME_BYTES + 2 * name.length;
    return number;
  }
}

const STACK_BYTES = 160;
const NAME_BYTES = 80;

/** "name<tab>file:12" without the line. */
const withoutLine = (frame: string): string => {
  const tab = frame.indexOf("\t");
  const colon = tab < 0 ? -1 : frame.lastIndexOf(":");
  return colon > tab && /^:\d+$/.test(frame.slice(colon)) ? frame.slice(0, colon) : frame;
};

export class StackCache {
  private readonly services = new Map<string, ServiceStacks>();
  private readonly mostBytes: number;
  constructor(mostBytes: number) {
    this.mostBytes = mostBytes;
  }

  get bytes(): number {
    let sum = 0;
    for (const one of this.services.values()) sum += one.bytes;
    return sum;
  }

  of(service: string): ServiceStacks {
    const found = this.services.get(service) ?? new ServiceStacks();
    this.services.delete(service);
    this.services.set(service, found);
    return found;
  }

  /** Forgets what is too much. Whoever holds a service's stacks may go on with them. */
  trim(): void {
    let { bytes } = this;
    for (const [service, one] of this.services) {
      if (bytes <= this.mostBytes) return;
      this.services.delete(service);
      bytes -= one.bytes;
    }
  }
}
