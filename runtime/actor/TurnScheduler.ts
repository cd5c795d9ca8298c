/**
 * Runs the fibers of a process in slices: when they have used BUDGET_MS of a turn of the event loop, what waits goes on in
 * the next one, after sockets and timers had theirs. Effect's own scheduler gives every fiber 2,048 rounds before anybody
 * else is heard, which under load is a second. Given to the server's root fiber, from which all others have it; holds
 * nothing to stop. A task never throws: fibers keep what fails to themselves.
 *
 * Lower numbers run first. What comes in bulk (agents' windows, telemetry, actors' messages) waits for its like alone: who
 * owns which part, greetings, the page and the writers of the store do not stand in line behind ten thousand windows.
 */
import { Scheduler } from "effect";

const BUDGET_MS = 5;
/**
 * One connection is accepted in each turn of the event loop, in the order in which they came. A thousand agents that come
 * at once would give up before their turn, and those behind them wait for what is dead: turns are short for a moment after
 * each connection.
 */
const HURRIED_MS = 0.5;
const HURRY_FOR_MS = 50;
/** Tasks that have run are dropped from a list so many at a time. */
const TRIM_AT = 1_024;

/** Priority of fibers that work off what comes in bulk; all others have 0. */
export const BULK = 1;

interface Bucket {
  readonly priority: number;
  readonly tasks: Scheduler.Task[];
  /** the first that has not run */
  head: number;
}

export class TurnScheduler implements Scheduler.Scheduler {
  readonly shouldYield = Scheduler.defaultShouldYield;
  /** by priority, none of them empty */
  readonly #waiting: Bucket[] = [];
  readonly #now: () => number;
  readonly #nextTurn: (run: () => void) => void;
  /** when this turn's slice is over, null before its first task */
  #until: number | null = null;
  #asked = false;
  #hurriedUntil = 0;

  /** `now` in ms; `nextTurn` calls back in the next turn of the event loop. */
  constructor(
    now: () => number = () => performance.now(),
    nextTurn: (run: () => void) => void = (run) => void setImmediate(run),
  ) {
    this.#now = now;
    this.#nextTurn = nextTurn;
  }

  scheduleTask(task: Scheduler.Task, priority: number): void {
    let at = 0;
    while ((this.#waiting[at]?.priority ?? Number.POSITIVE_INFINITY) < priority) at++;
    const bucket = this.#waiting[at];
    if (bucket?.priority === priority) bucket.tasks.push(task);
    else this.#waiting.splice(at, 0, { priority, tasks: [task], head: 0 });
    if (this.#asked) return;
    this.#asked = true;
    queueMicrotask(this.#drain);
  }

  /** A connection came, and others may wait behind it. */
  hurry(): void {
    this.#hurriedUntil = this.#now() + HURRY_FOR_MS;
  }

  readonly #turn = (): void => {
    this.#until = null;
    // the last task may have ended the slice: then nobody waits, and the next one asks anew
    this.#asked = this.#waiting.length > 0;
    if (this.#asked) this.#drain();
  };

  /** Runs what waits until the slice is over; the rest is the next turn's. */
  readonly #drain = (): void => {
    const now = this.#now();
    if (this.#until === null) {
      this.#until = now + (now < this.#hurriedUntil ? HURRIED_MS : BUDGET_MS);
      this.#nextTurn(this.#turn);
    } else if (now >= this.#until) return;
    // looked at anew each time: a task may have told one to run that goes before
    for (let task = this.#next(); task !== undefined; task = this.#next()) {
      task();
      if (this.#now() >= this.#until) return;
    }
    this.#asked = false;
  };

  #next(): Scheduler.Task | undefined {
    const bucket = this.#waiting[0];
    if (bucket === undefined) return undefined;
    const task = bucket.tasks[bucket.head++];
    if (bucket.head === bucket.tasks.length) this.#waiting.shift();
    else if (bucket.head === TRIM_AT) {
      bucket.tasks.splice(0, TRIM_AT);
      bucket.head = 0;
    }
    return task;
  }
}
