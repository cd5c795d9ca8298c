/**
 * A bounded map of two generations: what was asked for lately stays, the rest is forgotten. And on it, texts that come back
 * by the thousand and are kept once. Owned by whoever reads what others name; pure state, nothing to stop.
 */
const MAX_BYTES = 24 * 1024 * 1024;
const MAX_WORDS = 200_000;

/** The newer generation is asked first; when it is full it becomes the older one, whose rest is forgotten. */
export class Generations<K, V> {
  private young = new Map<K, V>();
  private old = new Map<K, V>();
  private weight = 0;
  private readonly most: number;
  private readonly weightOf: (value: V) => number;
  constructor(most: number, weightOf: (value: V) => number) {
    this.most = most;
    this.weightOf = weightOf;
  }

  get size(): number {
    return this.young.size + this.old.size;
  }

  get(key: K): V | undefined {
    const found = this.young.get(key);
    if (found !== undefined) return found;
    const older = this.old.get(key);
    if (older !== undefined) this.set(key, older);
    return older;
  }

  set(key: K, value: V): void {
    const weight = this.weightOf(value);
    if (this.young.size >= this.most || this.weight + weight > MAX_BYTES) {
      this.old = this.young;
      this.young = new Map();
      this.weight = 0;
    }
    this.young.set(key, value);
    this.weight += weight;
  }
}

/** Names and values of labels: most of them are the same in thousands of series. */
export class Words {
  private readonly known = new Generations<string, string>(MAX_WORDS, ({ length }) => length);

  /** The same text as before where it is known. */
  of(text: string): string {
    const known = this.known.get(text);
    if (known !== undefined) return known;
    this.known.set(text, text);
    return text;
  }
}
