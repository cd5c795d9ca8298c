/**
 * The samples lane where metrics are kept elsewhere: sends them by remote_write to a Prometheus, VictoriaMetrics or Mimir
 * and completes each batch when that store took it (2xx). Owned by Writer, in the place of SamplesLane. Each series always
 * goes by the same of a few connections, one request after the other, so its order stays. Bounded in bytes: when full,
 * `write` waits and `ready` turns false. A store that is away, slow, or refuses the sender is asked again for ever; samples
 * that it calls wrong are dropped with a count and a line in the log, and only they: the request is sent again in halves.
 * Stops by interruption: batches not completed are not acknowledged and come again from their senders.
 */
import { Data, Deferred, Effect, FiberId, Metric, Queue, Random, type Scope } from "effect";
import { compress } from "snappy";
import { ROW_BYTES, type StoreBatch } from "./batch.ts";
import { makeMetricsEndpoint, type EndpointConfig, type MetricsEndpoint } from "./MetricsEndpoint.ts";
import type { SamplesLane } from "./SamplesLane.ts";
import { encodeRequest, type Rows } from "./writeRequest.ts";

export interface RemoteConfig extends EndpointConfig {
  readonly maxBytes: number;
}

/** Connections, each with its own share of the series. */
const SHARDS = 4;
const ROWS_PER_REQUEST = 5_000;
const FIRST_MS = 200;
const LAST_MS = 10_000;
const MAX_RETRY_AFTER_MS = 60_000;
const ENTRY_BYTES = 512;
const MAX_REMEMBERED = 20_000;
/** Requests that one refused request may become in the search for the samples that are wrong. */
const MAX_HALVES = 200;
const MAX_REASON = 300;
/** Statuses by which the receiver says that the samples are wrong, and will say so again. */
const WRONG_SAMPLES: readonly number[] = [400, 413, 422];

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true });
const sentTotal = counter("coroot_remote_write_samples_total", "samples that the configured metrics store took");
const droppedTotal = counter("coroot_remote_write_dropped_total", "samples that the configured metrics store refused");
const retriesTotal = counter("coroot_remote_write_retries_total", "requests to the metrics store that failed");

/** Worth another try. */
class NotTaken extends Data.TaggedError("NotTaken")<{ readonly message: string; readonly retryAfterMs: number }> {}
class Refused extends Data.TaggedError("Refused")<{ readonly message: string }> {}

interface Entry {
  readonly key: string;
  readonly batch: StoreBatch;
  readonly bytes: number;
  /** pieces that were not taken yet */
  left: number;
  readonly done: Deferred.Deferred<void>;
}

interface Piece extends Rows {
  readonly entry: Entry;
}

interface Shard {
  readonly queue: Piece[];
  readonly wake: Queue.Queue<void>;
}

const retryAfterMs = (text: string | undefined): number => {
  const seconds = Number(text ?? 0);
  return Number.isFinite(seconds) ? Math.min(MAX_RETRY_AFTER_MS, Math.max(0, seconds * 1000)) : 0;
};

/** Rows by shard, cut into pieces of one request at most. A sample without a time or a series goes nowhere. */
const piecesOf = (entry: Entry): { readonly pieces: readonly (readonly Piece[])[]; readonly lost: number } => {
  const { batch } = entry;
  const rows: number[][] = Array.from({ length: SHARDS }, () => []);
  let lost = 0;
  for (let row = 0; row < batch.times.length; row++) {
    const place = batch.index[row] ?? 0;
    if (place >= batch.series.size || !((batch.times[row] ?? -1) >= 0)) lost++;
    else rows[batch.series.low(place) % SHARDS]?.push(row);
  }
  const pieces = rows.map((all) =>
    Array.from({ length: Math.ceil(all.length / ROWS_PER_REQUEST) }, (_, i) => ({
      entry,
      batch,
      rows: Uint32Array.from(all.slice(i * ROWS_PER_REQUEST, (i + 1) * ROWS_PER_REQUEST)),
    })),
  );
  return { pieces, lost };
};

const takePieces = (queue: Piece[]): readonly Piece[] => {
  let rows = 0;
  let count = 0;
  for (const piece of queue) {
    if (count > 0 && rows + piece.rows.length > ROWS_PER_REQUEST) break;
    rows += piece.rows.length;
    count++;
  }
  return queue.splice(0, count);
};

const countRows = (parts: readonly Rows[]): number => parts.reduce((sum, { rows }) => sum + rows.length, 0);

/** Two halves in the order of the whole. */
const halves = (parts: readonly Rows[]): readonly [Rows[], Rows[]] => {
  const half = Math.floor(countRows(parts) / 2);
  const [first, second]: [Rows[], Rows[]] = [[], []];
  let before = 0;
  for (const { batch, rows } of parts) {
    const cut = Math.min(rows.length, Math.max(0, half - before));
    if (cut > 0) first.push({ batch, rows: rows.subarray(0, cut) });
    if (cut < rows.length) second.push({ batch, rows: rows.subarray(cut) });
    before += rows.length;
  }
  return [first, second];
};

const HEADERS = {
  "content-type": "application/x-protobuf",
  "content-encoding": "snappy",
  "x-prometheus-remote-write-version": "0.1.0",
};

const postTo =
  ({ send }: MetricsEndpoint) =>
  (body: Buffer): Effect.Effect<void, NotTaken | Refused> =>
    send({ method: "POST", headers: HEADERS, body, maxBytes: MAX_REASON }).pipe(
      Effect.mapError(({ message }) => new NotTaken({ message, retryAfterMs: 0 })),
      Effect.flatMap(({ status, headers, body: text }) => {
        if (status >= 200 && status < 300) return Effect.void;
        const message = `${status} ${text.toString("utf8").split("\n", 1)[0] ?? ""}`.trim();
        return Effect.fail(
          WRONG_SAMPLES.includes(status)
            ? new Refused({ message })
            : new NotTaken({ message, retryAfterMs: retryAfterMs(headers["retry-after"]) }),
        );
      }),
    );

export const makeRemoteLane = (config: RemoteConfig): Effect.Effect<SamplesLane, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pending = new Map<string, Entry>();
    const remembered = new Set<string>();
    const room = yield* Effect.makeLatch(true);
    const counts = { bytes: 0, rows: 0, requests: 0, sent: 0, retries: 0, repeated: 0, dropped: 0 };
    let lastError = "";
    const endpoint = makeMetricsEndpoint(config, SHARDS);
    const post = postTo(endpoint);
    yield* Effect.addFinalizer(() => Effect.sync(endpoint.close));

    const shards: Shard[] = [];
    for (let i = 0; i < SHARDS; i++) shards.push({ queue: [], wake: yield* Queue.sliding<void>(1) });

    const waitAgain = ({ message, retryAfterMs: asked }: NotTaken, attempt: number) =>
      Effect.gen(function* () {
        counts.retries++;
        yield* Metric.increment(retriesTotal);
        if (lastError !== message)
          yield* Effect.logWarning("the configured metrics store does not take samples yet", { reason: message });
        lastError = message;
        const backOff = Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(attempt, 12));
        yield* Effect.sleep(Math.max(asked, backOff) * (0.75 + (yield* Random.next) / 2));
      });

    const untilAnswered = (body: Buffer, attempt = 0): Effect.Effect<void, Refused> =>
      Effect.catchTag(post(body), "NotTaken", (error) =>
        Effect.zipRight(
          waitAgain(error, attempt),
          Effect.suspend(() => untilAnswered(body, attempt + 1)),
        ),
      );

    const drop = (parts: readonly Rows[], reason: string) =>
      Effect.gen(function* () {
        const rows = countRows(parts);
        counts.dropped += rows;
        yield* Metric.incrementBy(droppedTotal, rows);
        yield* Effect.logWarning("the configured metrics store refuses samples: they are dropped", { rows, reason });
      });

    const sendRows = (parts: readonly Rows[], budget: { left: number }): Effect.Effect<void> =>
      Effect.gen(function* () {
        const rows = countRows(parts);
        if (rows === 0) return;
        const raw = encodeRequest(parts);
        const body = yield* Effect.promise(() => compress(raw));
        budget.left--;
        yield* untilAnswered(body).pipe(
          Effect.zipRight(
            Effect.suspend(() => {
              lastError = "";
              counts.requests++;
              counts.sent += rows;
              return Metric.incrementBy(sentTotal, rows);
            }),
          ),
          Effect.catchTag("Refused", ({ message }) => {
            if (rows === 1 || budget.left <= 0) return drop(parts, message);
            const [first, second] = halves(parts);
            return Effect.zipRight(
              sendRows(first, budget),
              Effect.suspend(() => sendRows(second, budget)),
            );
          }),
        );
      });

    const release = (entry: Entry) =>
      Effect.gen(function* () {
        counts.bytes -= entry.bytes;
        counts.rows -= entry.batch.times.length;
        pending.delete(entry.key);
        remembered.add(entry.key);
        const [oldest] = remembered;
        if (remembered.size > MAX_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
        yield* Deferred.succeed(entry.done, undefined);
        if (counts.bytes < config.maxBytes) yield* room.open;
      });

    const round = ({ queue, wake }: Shard) =>
      Effect.gen(function* () {
        if (queue.length === 0) yield* Queue.take(wake);
        const pieces = takePieces(queue);
        yield* sendRows(pieces, { left: MAX_HALVES }).pipe(
          // what cannot even be written would hold up its shard for ever
          Effect.catchAllDefect((defect) => drop(pieces, String(defect))),
        );
        for (const { entry } of pieces) if (--entry.left === 0) yield* release(entry);
      });
    for (const shard of shards) yield* Effect.forever(round(shard)).pipe(Effect.forkScoped);
    yield* Effect.addFinalizer(() =>
      Effect.forEach(pending.values(), ({ done }) => Deferred.interrupt(done), { discard: true }),
    );

    const awaitRoom: Effect.Effect<void> = Effect.suspend(() => {
      if (counts.bytes < config.maxBytes) return Effect.void;
      // closed in the same step as the look, so that no release can fall in between
      room.unsafeClose();
      return Effect.zipRight(room.await, awaitRoom);
    });

    const enqueue = (key: string, batch: StoreBatch) =>
      Effect.gen(function* () {
        const bytes = ENTRY_BYTES + batch.times.length * ROW_BYTES;
        const entry: Entry = { key, batch, bytes, left: 0, done: Deferred.unsafeMake<void>(FiberId.none) };
        const { pieces, lost } = piecesOf(entry);
        entry.left = pieces.reduce((sum, all) => sum + all.length, 0);
        counts.dropped += lost;
        yield* Metric.incrementBy(droppedTotal, lost);
        counts.bytes += bytes;
        counts.rows += batch.times.length;
        pending.set(key, entry);
        if (entry.left === 0) yield* release(entry);
        for (const [i, shard] of shards.entries()) {
          shard.queue.push(...(pieces[i] ?? []));
          yield* Queue.offer(shard.wake, undefined);
        }
        return entry;
      });

    return {
      write: (batch) =>
        Effect.gen(function* () {
          const key = `${batch.agent}\u0000${batch.epoch}\u0000${batch.sequence}`;
          yield* awaitRoom;
          if (remembered.has(key)) {
            counts.repeated++;
            return;
          }
          const entry = pending.get(key) ?? (yield* enqueue(key, batch));
          yield* Deferred.await(entry.done);
        }),
      ready: () => counts.bytes < config.maxBytes * 0.75,
      stats: () => ({
        queuedBytes: counts.bytes,
        queuedRows: counts.rows,
        queuedBatches: pending.size,
        inserts: counts.requests,
        insertedRows: counts.sent,
        retries: counts.retries,
        repeated: counts.repeated,
        refusedRows: counts.dropped,
        lastError,
      }),
    } satisfies SamplesLane;
  });
