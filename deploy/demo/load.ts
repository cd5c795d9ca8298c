/**
 * What the users of the shop saw: the load program's lines as counts per second, totals, and the moments of bad requests.
 * Owned by the shop; it is the check's witness and knows nothing of the server. The moments are kept for the last 10,000
 * bad requests, older ones are counted only. A line that is none of the three kinds is counted as unread.
 */
export interface LoadSecond {
  readonly at: number;
  readonly sent: number;
  readonly ok: number;
  readonly failed: number;
  readonly slow: number;
  readonly p50: number | null;
  readonly p95: number | null;
}

export interface BadRequest {
  readonly type: "failed" | "slow";
  readonly at: number;
  readonly route: string;
  readonly problem: string | null;
}

const KEPT_SECONDS = 900;
const KEPT_BAD = 10_000;

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;
const count = (value: unknown): number => (typeof value === "number" ? value : 0);
const numberOrNull = (value: unknown): number | null => (typeof value === "number" ? value : null);
const textOrNull = (value: unknown): string | null => (typeof value === "string" ? value : null);

export class LoadWitness {
  readonly seconds: LoadSecond[] = [];
  readonly bad: BadRequest[] = [];
  readonly total = { sent: 0, ok: 0, failed: 0, slow: 0 };
  unread = 0;
  onSecond: (second: LoadSecond) => void = () => {};

  read(line: string): void {
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      this.unread += 1;
      return;
    }
    if (!isRecord(parsed)) this.unread += 1;
    else if (parsed["type"] === "second") this.#second(parsed);
    else if (parsed["type"] === "failed" || parsed["type"] === "slow") {
      const { type, at, route, problem } = parsed;
      this.bad.push({ type, at: count(at), route: textOrNull(route) ?? "?", problem: textOrNull(problem) });
      if (this.bad.length > KEPT_BAD) this.bad.splice(0, this.bad.length - KEPT_BAD);
    } else this.unread += 1;
  }

  /** First request at or after `since` that failed or became slow. */
  firstBad(since: number): BadRequest | undefined {
    return this.bad.find((request) => request.at >= since);
  }

  lastBad(since: number): BadRequest | undefined {
    return this.bad.findLast((request) => request.at >= since);
  }

  #second(line: Readonly<Record<string, unknown>>): void {
    const second: LoadSecond = {
      at: count(line["at"]),
      sent: count(line["sent"]),
      ok: count(line["ok"]),
      failed: count(line["failed"]),
      slow: count(line["slow"]),
      p50: numberOrNull(line["p50"]),
      p95: numberOrNull(line["p95"]),
    };
    this.total.sent += second.sent;
    this.total.ok += second.ok;
    this.total.failed += second.failed;
    this.total.slow += second.slow;
    this.seconds.push(second);
    if (this.seconds.length > KEPT_SECONDS) this.seconds.shift();
    this.onSecond(second);
  }
}
