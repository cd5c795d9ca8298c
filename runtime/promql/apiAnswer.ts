/**
 * What a server of Prometheus' HTTP API answers, from its bytes to values: the other direction of http/prometheusApi.ts.
 * Pure, in pieces, without an object per point; members may come in any order, unknown ones are passed. An answer that
 * cannot be read is a BadJson, one with more points than a query may have a QueryError. Source of the format:
 * https://prometheus.io/docs/prometheus/latest/querying/api/
 */
import type { RawSeries } from "./grid.ts";
import { BadJson, JsonReader, OPEN_ARRAY, OPEN_OBJECT } from "./JsonReader.ts";
import { labelsOf, NO_LABELS, type Labels } from "./labels.ts";
import type { Metadata } from "./MetricsQuery.ts";
import { LIMITS, overLimit } from "./QueryError.ts";
import { Pace, type Work } from "./work.ts";

export interface ApiAnswer<A> {
  /** null: none was given */
  readonly data: A | null;
  readonly isError: boolean;
  readonly errorType: string;
  readonly error: string;
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
}

type ReadData<A> = (json: JsonReader, pace: Pace) => Work<A>;

const NULL = 0x6e;
/** Points between two looks at the pace. */
const STRIDE = 4_096;
/** What reading one point and one text costs, in values that are computed with. */
const POINT_COST = 5;
const TEXT_COST = 20;

const texts = function* (json: JsonReader, pace: Pace): Work<string[]> {
  const out: string[] = [];
  for (let more = json.enter(OPEN_ARRAY); more; more = json.next(OPEN_ARRAY)) {
    out.push(json.string());
    yield* pace.spend(TEXT_COST);
  }
  return out;
};

const labelsFrom = (json: JsonReader): Labels => {
  const out: [string, string][] = [];
  for (let more = json.enter(OPEN_OBJECT); more; more = json.next(OPEN_OBJECT)) out.push([json.name(), json.string()]);
  return labelsOf(out);
};

const valueOf = (text: string, at: number): number => {
  if (text === "+Inf" || text === "Inf") return Infinity;
  if (text === "-Inf") return -Infinity;
  const value = text === "" ? Number.NaN : Number(text);
  if (Number.isNaN(value) && text !== "NaN") throw new BadJson("a value", at);
  return value;
};

/** Points in two columns that grow. */
class Points {
  times = new Float64Array(1_024);
  values = new Float64Array(1_024);
  count = 0;

  add(atMs: number, value: number): void {
    if (this.count === this.times.length) {
      const [times, values] = [new Float64Array(2 * this.count), new Float64Array(2 * this.count)];
      times.set(this.times);
      values.set(this.values);
      [this.times, this.values] = [times, values];
    }
    this.times[this.count] = atMs;
    this.values[this.count++] = value;
  }

  /** Those since the last time. */
  drain(): Omit<RawSeries, "labels"> {
    const out = { times: this.times.slice(0, this.count), values: this.values.slice(0, this.count) };
    this.count = 0;
    return out;
  }
}

/** `[seconds, "value"]`, with times in ms. */
const readPoint = (json: JsonReader, into: Points): void => {
  if (!json.enter(OPEN_ARRAY)) throw new BadJson("a time", json.at);
  const atMs = Math.round(json.number() * 1000);
  if (!json.next(OPEN_ARRAY)) throw new BadJson("a value", json.at);
  const { at } = json;
  into.add(atMs, valueOf(json.string(), at));
  if (json.next(OPEN_ARRAY)) throw new BadJson("the end of a point", json.at);
};

/** What `data` of a query has, whichever type it says: a list of series is a vector or a matrix. */
export interface ApiResult {
  readonly type: string;
  readonly series: readonly RawSeries[];
  /** of a scalar or string: its time and its text */
  readonly single: { readonly atMs: number; readonly text: string } | null;
  /** series or points of native histograms, which values cannot hold */
  readonly histograms: number;
}

export const readResult: ReadData<ApiResult> = function* (json, pace) {
  const points = new Points();
  const series: RawSeries[] = [];
  let [type, single, histograms, total]: [string, ApiResult["single"], number, number] = ["", null, 0, 0];

  const readSeries = function* (): Work<void> {
    let labels = NO_LABELS;
    let hasValues = false;
    for (let more = json.enter(OPEN_OBJECT); more; more = json.next(OPEN_OBJECT)) {
      const name = json.name();
      if (name === "metric") labels = labelsFrom(json);
      else if (name === "value") {
        readPoint(json, points);
        hasValues = true;
      } else if (name === "values") {
        for (let another = json.enter(OPEN_ARRAY); another; another = json.next(OPEN_ARRAY)) {
          readPoint(json, points);
          if (total + points.count > LIMITS.samples) throw overLimit("samples");
          if (points.count % STRIDE === 0) yield* pace.spend(POINT_COST * STRIDE);
        }
        hasValues = true;
      } else {
        if (name === "histogram" || name === "histograms") histograms++;
        json.skip();
      }
    }
    yield* pace.spend(TEXT_COST * labels.size + POINT_COST * (points.count % STRIDE));
    total += points.count;
    if (hasValues && series.push({ labels, ...points.drain() }) > LIMITS.series) throw overLimit("series");
  };

  for (let more = json.enter(OPEN_OBJECT); more; more = json.next(OPEN_OBJECT)) {
    const name = json.name();
    if (name === "resultType") type = json.string();
    else if (name === "result" && json.peek() === OPEN_ARRAY) {
      for (let another = json.enter(OPEN_ARRAY); another; another = json.next(OPEN_ARRAY)) {
        if (json.peek() === OPEN_OBJECT) {
          yield* readSeries();
          continue;
        }
        const atMs = Math.round(json.number() * 1000);
        if (!json.next(OPEN_ARRAY)) throw new BadJson("a value", json.at);
        single = { atMs, text: json.string() };
      }
    } else json.skip();
  }
  return { type, series, single, histograms };
};

/** The value of a scalar. */
export const scalarOf = (text: string): number => valueOf(text, 0);

export const readTexts: ReadData<readonly string[]> = texts;

export const readSeriesList: ReadData<readonly Labels[]> = function* (json, pace) {
  const out: Labels[] = [];
  for (let more = json.enter(OPEN_ARRAY); more; more = json.next(OPEN_ARRAY)) {
    const labels = labelsFrom(json);
    if (out.push(labels) > LIMITS.series) throw overLimit("series");
    yield* pace.spend(TEXT_COST * labels.size);
  }
  return out;
};

export const readMetadata: ReadData<readonly Metadata[]> = function* (json, pace) {
  const out: Metadata[] = [];
  for (let more = json.enter(OPEN_OBJECT); more; more = json.next(OPEN_OBJECT)) {
    const metric = json.name();
    for (let another = json.enter(OPEN_ARRAY); another; another = json.next(OPEN_ARRAY)) {
      const entry = { metric, type: "unknown", help: "", unit: "" };
      for (let field = json.enter(OPEN_OBJECT); field; field = json.next(OPEN_OBJECT)) {
        const name = json.name();
        if (name === "type" || name === "help" || name === "unit") entry[name] = json.string();
        else json.skip();
      }
      out.push(entry);
      yield* pace.spend(4 * TEXT_COST);
    }
  }
  return out;
};

/** A whole answer, of success or failure, with `data` read by `read`. */
export const readAnswer = function* <A>(bytes: Buffer, read: ReadData<A>): Work<ApiAnswer<A>> {
  const json = new JsonReader(bytes);
  const pace = new Pace();
  let [data, status, errorType, error]: [A | null, string, string, string] = [null, "", "", ""];
  const warnings: string[] = [];
  const infos: string[] = [];
  for (let more = json.enter(OPEN_OBJECT); more; more = json.next(OPEN_OBJECT)) {
    const name = json.name();
    // written by some as a member without anything
    if (json.peek() === NULL) json.word();
    else if (name === "data") data = yield* read(json, pace);
    else if (name === "status") status = json.string();
    else if (name === "errorType") errorType = json.string();
    else if (name === "error") error = json.string();
    else if (name === "warnings") warnings.push(...(yield* texts(json, pace)));
    else if (name === "infos") infos.push(...(yield* texts(json, pace)));
    // VictoriaMetrics' cluster, when some of its storage did not answer
    else if (name === "isPartial" && json.word() === "true") warnings.push("the metrics store gave a part of the data");
    else if (name !== "isPartial") json.skip();
  }
  json.end();
  if (status !== "success" && status !== "error") throw new BadJson("a status", bytes.length);
  return { data, isError: status === "error", errorType, error, warnings, infos };
};
