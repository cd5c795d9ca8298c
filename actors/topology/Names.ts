/**
 * What else is known about addresses: what a client dialled and where its packets went (NAT), virtual addresses with the
 * backends behind them, and the names by which a node asked for an address. The newest evidence wins, whoever told it
 * first. Owned by the topology actor; bounded, the oldest give way, counted.
 */
const MOST = 100_000;

export interface Vip {
  readonly name: string;
  readonly backends: readonly { readonly address: string; readonly port: number }[];
}

interface Known<T> {
  readonly at: number;
  readonly value: T;
}

class Newest<T> {
  readonly #known = new Map<string, Known<T>>();
  dropped = 0;

  get size(): number {
    return this.#known.size;
  }

  /** False: it says nothing new. Of two that are equally old the text decides, so that order does not. */
  put(key: string, value: T, at: number): boolean {
    const known = this.#known.get(key);
    if (known !== undefined) {
      const same = JSON.stringify(known.value) === JSON.stringify(value);
      if (known.at > at || (known.at === at && JSON.stringify(known.value) >= JSON.stringify(value))) return false;
      this.#known.set(key, { at, value });
      return !same;
    }
    this.#known.set(key, { at, value });
    if (this.#known.size > MOST) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
      this.dropped++;
    }
    return true;
  }

  get(key: string): T | null {
    return this.#known.get(key)?.value ?? null;
  }
}

export class Names {
  /** by node and `address:port` that was dialled */
  readonly nat = new Newest<string>();
  /** by `address:port` */
  readonly vips = new Newest<Vip>();
  /** by node and address, and by address alone for the other nodes */
  readonly dns = new Newest<string>();

  nameOf(node: string, address: string): string | null {
    return this.dns.get(`${node}|${address}`) ?? this.dns.get(address);
  }
}
