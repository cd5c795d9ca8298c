/** The server's own metrics as Prometheus reads them. */
import { Effect, Metric, MetricBoundaries } from "effect";
import { describe, expect, it } from "vitest";
import { prometheusText } from "../../../runtime/http/prometheus.ts";

describe("metrics", () => {
  it("are written by type, with labels escaped and one +Inf bucket", () => {
    const counter = Metric.tagged(Metric.counter("spec_requests.total", { description: "a\nb" }), "path", 'x"y\\');
    const histogram = Metric.histogram("spec_seconds", MetricBoundaries.fromIterable([0.1, 1]));
    Effect.runSync(
      Effect.gen(function* () {
        yield* Metric.incrementBy(counter, 3);
        yield* Metric.set(Metric.gauge("spec_level"), -1.5);
        yield* Metric.update(histogram, 0.5);
        yield* Metric.update(histogram, 7);
      }),
    );
    const lines = prometheusText()
      .split("\n")
      .filter((line) => line.includes("spec_"));
    expect(lines).toEqual([
      "# TYPE spec_level gauge",
      "spec_level -1.5",
      "# HELP spec_requests_total a\\nb",
      "# TYPE spec_requests_total counter",
      'spec_requests_total{path="x\\"y\\\\"} 3',
      "# TYPE spec_seconds histogram",
      'spec_seconds_bucket{le="0.1"} 0',
      'spec_seconds_bucket{le="1"} 1',
      'spec_seconds_bucket{le="+Inf"} 2',
      "spec_seconds_sum 7.5",
      "spec_seconds_count 2",
    ]);
  });
});
