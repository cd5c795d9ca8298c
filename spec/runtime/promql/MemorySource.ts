/** Samples in memory as a source, for specs of the evaluation: all range functions are computed from the samples. */
import { Effect } from "effect";
import { METRIC_NAME, type Matcher } from "../../../runtime/promql/ast.ts";
import { timeAt, type GridSeries, type RawSeries, type Value } from "../../../runtime/promql/grid.ts";
import { gridOf } from "../../../runtime/promql/grid.ts";
import { evaluateQuery } from "../../../runtime/promql/evaluate.ts";
import { labelsOf, labelsText, type Labels } from "../../../runtime/promql/labels.ts";
import { parse } from "../../../runtime/promql/parse.ts";
import { anchored } from "../../../runtime/promql/replace.ts";
import { LOOK_BACK_MS, type Source } from "../../../runtime/promql/Source.ts";

/** Samples by seconds: a value, or null for a stale marker. */
export type Samples = Readonly<Record<number, number | null>>;

const pattern = (text: string): RegExp =>
  new RegExp(anchored(text).replace("(?s:", "(?:").replaceAll("(?P<", "(?<"), "s");

const matches = (labels: Labels, matchers: readonly Matcher[]): boolean =>
  matchers.every(({ name, operator, value }) => {
    const found = labels.get(name) ?? "";
    if (operator === "=") return found === value;
    if (operator === "!=") return found !== value;
    return pattern(value).test(found) === (operator === "=~");
  });

interface Kept extends RawSeries {
  readonly stale: readonly boolean[];
}

export class MemorySource {
  private readonly kept: Kept[] = [];

  /** `labels` as in `name{a="b"}`. */
  add(name: string, labels: Readonly<Record<string, string>>, samples: Samples): this {
    const found = Object.entries(samples).map(([at, value]) => [Number(at) * 1000, value] as const);
    found.sort(([a], [b]) => a - b);
    this.kept.push({
      labels: labelsOf([[METRIC_NAME, name], ...Object.entries(labels)]),
      times: Float64Array.from(found, ([at]) => at),
      values: Float64Array.from(found, ([, value]) => value ?? 0),
      stale: found.map(([, value]) => value === null),
    });
    return this;
  }

  get source(): Source {
    const { kept } = this;
    const found = (matchers: readonly Matcher[]): Kept[] => kept.filter(({ labels }) => matches(labels, matchers));
    return {
      instant: (matchers, grid, what) =>
        Effect.sync(() =>
          found(matchers).map(({ labels, times, values, stale }): GridSeries => {
            const out = { labels, values: new Float64Array(grid.points), present: new Uint8Array(grid.points) };
            for (let point = 0; point < grid.points; point++) {
              const now = timeAt(grid, point);
              const last = times.findLastIndex((time) => time <= now && time > now - LOOK_BACK_MS);
              if (last < 0 || stale[last] === true) continue;
              out.present[point] = 1;
              out.values[point] = what === "time" ? (times[last] ?? 0) / 1000 : (values[last] ?? 0);
            }
            return out;
          }),
        ),
      over: () => Effect.succeed(null),
      raw: (matchers, afterMs, untilMs) =>
        Effect.sync(() =>
          found(matchers).map(({ labels, times, values, stale }): RawSeries => {
            const within = [...times.keys()].filter(
              (i) => stale[i] === false && (times[i] ?? 0) > afterMs && (times[i] ?? 0) <= untilMs,
            );
            return {
              labels,
              times: Float64Array.from(within, (i) => times[i] ?? 0),
              values: Float64Array.from(within, (i) => values[i] ?? 0),
            };
          }),
        ),
      groups: (text, texts) =>
        Effect.sync(() =>
          texts.map(
            (one) =>
              pattern(text)
                .exec(one)
                ?.map((group) => group ?? "") ?? null,
          ),
        ),
    };
  }

  private value(query: string, startS: number, endS: number, stepS: number): Promise<Value> {
    const grid = gridOf(startS * 1000, endS * 1000, stepS * 1000);
    return Effect.runPromise(Effect.suspend(() => evaluateQuery(parse(query), grid, endS * 1000, this.source)));
  }

  /** Values at each step by series, null where there is none; a scalar under "scalar". */
  async range(query: string, startS: number, endS: number, stepS: number) {
    const value = await this.value(query, startS, endS, stepS);
    const out: Record<string, (number | null)[]> = {};
    if (value.kind === "scalar") out["scalar"] = [...value.values];
    if (value.kind === "vector")
      for (const { labels, values, present } of value.series)
        out[labelsText(labels)] = Array.from(values, (one, i) => (present[i] === 1 ? one : null));
    return out;
  }

  /** Values at one moment, in the answer's order. */
  async at(query: string, atS = 0): Promise<readonly (readonly [labels: string, value: number])[]> {
    const all = await this.range(query, atS, atS, 1);
    return Object.entries(all).map(([labels, [value]]) => [labels, value ?? Number.NaN]);
  }
}
