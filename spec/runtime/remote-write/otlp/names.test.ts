/** Names as Prometheus' own OTLP receiver gives them (the examples are its tests' and the specification's). */
import { describe, expect, it } from "vitest";
import { labelName, labelPairs, metricName, numberText } from "../../../../runtime/remote-write/otlp/names.ts";

describe("names of metrics", () => {
  it.each([
    ["system.io", "", "counter", "system_io_total"],
    ["system.filesystem.usage", "By", "gauge", "system_filesystem_usage_bytes"],
    ["system.cpu.time", "s", "counter", "system_cpu_time_seconds_total"],
    ["http.server.request.duration", "s", "histogram", "http_server_request_duration_seconds"],
    ["network.transmitted", "By", "counter", "network_transmitted_bytes_total"],
    ["memory_usage_bytes", "By", "gauge", "memory_usage_bytes"],
    ["cpu.utilization", "1", "gauge", "cpu_utilization_ratio"],
    ["hw.fan.ratio.speed", "1", "gauge", "hw_fan_speed_ratio"],
    ["requests_total", "", "counter", "requests_total"],
    ["total.requests.done", "", "counter", "requests_done_total"],
    ["queue.length", "{items}", "up-down", "queue_length"],
    ["broken.events", "{event}/s", "gauge", "broken_events_per_second"],
    ["network.speed", "By/s", "gauge", "network_speed_bytes_per_second"],
    ["fuel", "m/h", "gauge", "fuel_meters_per_hour"],
    ["disk.util", "%", "gauge", "disk_util_percent"],
    ["cpu.hits", "1", "counter", "cpu_hits_total"],
    ["5xx.errors", "", "gauge", "_5xx_errors"],
    ["__a..b__", "", "gauge", "a_b"],
    ["job:rate", "", "gauge", "job:rate"],
    ["météo.vent", "m/s", "gauge", "m_t_o_vent_meters_per_second"],
    ["own.unit", "widgets·2", "gauge", "own_unit_widgets_2"],
    ["...", "", "gauge", ""],
  ] as const)("%s in %s as %s is %s", (name, unit, kind, expected) =>
    expect(metricName(name, unit, kind)).toBe(expected),
  );
});

describe("labels", () => {
  it.each([
    ["http.request.method", "http_request_method"],
    ["a__b", "a_b"],
    ["2nd", "key_2nd"],
    ["_x", "_x"],
    ["é", "_"],
  ])("%s is %s", (key, expected) => expect(labelName(key)).toBe(expected));

  it("that become the same are joined in the order of their keys", () => {
    expect(labelPairs(["b", "1", "a_x", "2", "a.x", "3", "é", "4", "", "5"])).toEqual(["b", "1", "a_x", "3;2"]);
  });
});

it("numbers in labels have no exponent", () => {
  const numbers = [0.005, 1, 2.5, 1e6, 1e21, 1.5e22, 1e-7, -2.5e-9, Infinity, -Infinity];
  expect(numbers.map(numberText)).toEqual([
    "0.005",
    "1",
    "2.5",
    "1000000",
    "1000000000000000000000",
    "15000000000000000000000",
    "0.0000001",
    "-0.0000000025",
    "+Inf",
    "-Inf",
  ]);
});
