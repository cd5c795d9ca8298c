/**
 * JSON read in place: a cursor over one text's bytes for answers that are too long to be parsed in one go. Pure. What
 * cannot be read is a BadJson that says what was expected and at which byte; nothing is nested by recursion. Source of the
 * format: RFC 8259; a control character in a string, which it forbids, is taken as it is.
 */
export class BadJson extends Error {
  constructor(expected: string, at: number) {
    super(`expected ${expected} at byte ${at}`);
    this.name = "BadJson";
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
export const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
export const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;

const isSpace = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
/** + - . 0-9 E e */
const isOfNumber = (byte: number | undefined): boolean =>
  byte !== undefined &&
  ((byte >= 0x30 && byte <= 0x39) || byte === 0x2b || byte === 0x2d || byte === 0x2e || byte === 0x45 || byte === 0x65);
const isLetter = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x61 && byte <= 0x7a;

export class JsonReader {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** The byte that the next value begins with; 0 at the end. */
  peek(): number {
    while (isSpace(this.bytes[this.at])) this.at++;
    return this.bytes[this.at] ?? 0;
  }

  private take(byte: number): void {
    if (this.peek() !== byte) throw new BadJson(String.fromCharCode(byte), this.at);
    this.at++;
  }

  /** Into an array or object; false when it is empty and passed. `for (let more = enter(…); more; more = next(…))` */
  enter(open: typeof OPEN_OBJECT | typeof OPEN_ARRAY): boolean {
    this.take(open);
    if (this.peek() !== open + 2) return true;
    this.at++;
    return false;
  }

  /** To the next of the array or object that was begun with `open`; false when that was the last. */
  next(open: typeof OPEN_OBJECT | typeof OPEN_ARRAY): boolean {
    const byte = this.peek();
    if (byte !== COMMA && byte !== open + 2) throw new BadJson("a comma or an end", this.at);
    this.at++;
    return byte === COMMA;
  }

  /** An object's next name. */
  name(): string {
    const name = this.string();
    this.take(COLON);
    return name;
  }

  string(): string {
    this.take(QUOTE);
    const { bytes } = this;
    const from = this.at;
    let to = from;
    let isEscaped = false;
    for (; ; to++) {
      const byte = bytes[to];
      if (byte === QUOTE) break;
      if (byte === undefined) throw new BadJson("the end of a text", from);
      if (byte !== BACKSLASH) continue;
      isEscaped = true;
      to++;
    }
    this.at = to + 1;
    const text = bytes.toString("utf8", from, to);
    if (!isEscaped) return text;
    try {
      return JSON.parse(`"${text}"`) as string;
    } catch {
      throw new BadJson("a text", from);
    }
  }

  number(): number {
    this.peek();
    const from = this.at;
    while (isOfNumber(this.bytes[this.at])) this.at++;
    const value = this.at === from ? Number.NaN : Number(this.bytes.toString("latin1", from, this.at));
    if (Number.isNaN(value)) throw new BadJson("a number", from);
    return value;
  }

  /** Passes true, false or null; gives which. */
  word(): "true" | "false" | "null" {
    this.peek();
    const from = this.at;
    while (isLetter(this.bytes[this.at])) this.at++;
    const word = this.bytes.toString("latin1", from, this.at);
    if (word !== "true" && word !== "false" && word !== "null") throw new BadJson("a value", from);
    return word;
  }

  /** Passes a value of any kind. */
  skip(): void {
    let depth = 0;
    do {
      const byte = this.peek();
      if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        depth++;
        this.at++;
      } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
        depth--;
        this.at++;
      } else if (depth > 0 && (byte === COMMA || byte === COLON)) this.at++;
      else if (byte === QUOTE) this.string();
      else if (isLetter(byte)) this.word();
      else this.number();
      if (depth < 0) throw new BadJson("a value", this.at - 1);
    } while (depth > 0);
  }

  /** Nothing may follow. */
  end(): void {
    if (this.peek() !== 0 || this.at < this.bytes.length) throw new BadJson("the end", this.at);
  }
}
