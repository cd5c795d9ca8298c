/** The configuration: defaults, environment above file, and problems that name their field. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Effect, Either } from "effect";
import { describe, expect, it } from "vitest";
import { checkConfig, defaultDataDir, loadConfig } from "../../../runtime/config/Config.ts";

const problems = (content: unknown, env: Record<string, string> = {}): readonly string[] =>
  Either.match(checkConfig(content, env, 0), { onLeft: (all) => all, onRight: () => [] });
const file = (name: string, text: string): string => {
  const path = join(mkdtempSync(join(tmpdir(), "coroot-config-")), name);
  writeFileSync(path, text);
  return path;
};

describe("configuration", () => {
  it("has a default for everything", async () => {
    expect(await Effect.runPromise(loadConfig({ env: {}, uid: 0 }))).toEqual({
      server: { host: "127.0.0.1", port: 8080 },
      data: "/var/lib/coroot",
      cluster: "default",
      clickhouse: { user: "default", password: "", database: "coroot" },
      alerts: { webhooks: [] },
      slo: { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdSeconds: 15 },
      prometheus: { headers: {} },
      keep: {
        metricsDays: 7,
        logsDays: 7,
        tracesDays: 7,
        profilesDays: 7,
        incidentsDays: 90,
        minutesDays: 35,
        diskPercent: 85,
      },
      state: { connections: 8 },
      replica: { host: "127.0.0.1", port: 34_431 },
      services: { custom: [], categories: {} },
      databases: { credentials: [] },
      otlp: { grpcPort: 4317 },
      recording: { actors: [], maxBytesPerActor: 67_108_864, maxBytes: 536_870_912 },
      agent: {
        server: "http://127.0.0.1:8080",
        spoolMaxBytes: 268_435_456,
        traffic: true,
        hooks: "best",
        tls: true,
        tlsBudgetPercent: 5,
        spans: true,
        spansSampleOneOf: 64,
        spansSampledPerSecond: 50,
        spansSlowPerSecond: 50,
        spansFailedPerSecond: 50,
        spansSlowMs: 500,
      },
      log: "info",
    });
    expect(defaultDataDir({ HOME: "/home/ann" }, 1000)).toBe("/home/ann/.local/share/coroot");
  });

  it("reads YAML and JSON, and the environment stands above both", async () => {
    const yaml = file(
      "a.yaml",
      "server:\n  port: 9000\ncluster: prod\nalerts:\n  webhooks:\n    - {name: a, url: 'http://127.0.0.1:1/x'}\n",
    );
    const read = await Effect.runPromise(
      loadConfig({ env: { COROOT_CONFIG: yaml, COROOT_PORT: "9100", COROOT_DATA: "/tmp/x", COROOT_CLUSTER: "" } }),
    );
    expect(read).toMatchObject({ server: { host: "127.0.0.1", port: 9100 }, cluster: "prod", data: "/tmp/x" });
    expect(read.alerts.webhooks).toEqual([{ name: "a", url: "http://127.0.0.1:1/x", headers: {} }]);
    const json = file("a.json", '{"slo":{"availabilityObjective":0.999}}');
    expect((await Effect.runPromise(loadConfig({ path: json, env: {} }))).slo).toMatchObject({
      availabilityObjective: 0.999,
      holdSeconds: 15,
    });
    const replicas = file("replicas.yaml", "agent:\n  server: [ws://a:8080, ws://b:8080]\n");
    expect((await Effect.runPromise(loadConfig({ path: replicas, env: {} }))).agent.server).toEqual([
      "ws://a:8080",
      "ws://b:8080",
    ]);
    expect(
      (await Effect.runPromise(loadConfig({ path: file("empty.yaml", "server:\nslo:\n  # nothing\n"), env: {} })))
        .cluster,
    ).toBe("default");
  });

  it.each([
    [{ server: { prot: 1 } }, "server.prot: there is no such field; known here: host, port"],
    [{ servre: {} }, "servre: there is no such field; known here: server, data, cluster,"],
    [{ server: { port: "x" } }, 'server.port: "x" found, expected a whole number from 0 to 65535'],
    [{ server: { port: 70_000 } }, "server.port: 70000 found, expected a whole number from 0 to 65535"],
    [{ server: { host: "0.0.0.0" } }, "until access control is built the server binds 127.0.0.1 only and refuses"],
    [{ server: 5 }, "server: 5 found, expected"],
    [{ slo: { latencyObjective: 99 } }, "slo.latencyObjective: 99 found, expected a number between 0 and 1"],
    [{ agent: { server: "nowhere" } }, 'agent.server: "nowhere" found, expected a URL that starts with http://'],
    [{ agent: { server: ["ws://a", "ftp://b"] } }, "expected a URL that starts with http:// or https:// or ws://"],
    [{ agent: { server: [] } }, "or a list of them"],
    [{ agent: { traffic: "yes" } }, 'agent.traffic: "yes" found, expected true or false'],
    [{ alerts: { webhooks: [{ name: "a" }] } }, "alerts.webhooks[0].url: is missing"],
    [
      { alerts: { webhooks: [{ name: "a", url: "ftp://x" }] } },
      'alerts.webhooks[0].url: "ftp://x" found, expected a URL',
    ],
    [{ alerts: { webhooks: [1, 2].map(() => ({ name: "a", url: "http://x/" })) } }, "expected names that differ"],
    [{ clickhouse: { url: "127.0.0.1:8123" } }, "clickhouse.url:"],
    [{ clickhouse: { cluster: "main" } }, "clickhouse.cluster: "],
    [{ clickhouse: { url: "http://a:8123", cluster: "it's" } }, "clickhouse.cluster: "],
    [
      { clickhouse: { url: "clickhouse://ann:secret@ch:9000" } },
      'clickhouse.url: "clickhouse://…@ch:9000" found, expected the HTTP interface, for example http://host:8123',
    ],
    [
      { clickhouse: { url: "tcp://ch:9000" } },
      "the native protocol (clickhouse://, tcp://, ports 9000 and 9440) is not",
    ],
    [{ clickhouse: { url: "http://ch:9000/" } }, "expected the HTTP interface"],
    [{ clickhouse: { url: "https://ch:9440" } }, "expected the HTTP interface"],
    [{ prometheus: { url: "http://p:9090" } }, "prometheus.remoteWriteUrl: nothing found, expected where samples are"],
    [
      { prometheus: { url: "http://ann:secret@p/api/v1/", remoteWriteUrl: "http://p/" } },
      "prometheus.url: a value found, expected the base URL, before /api/v1",
    ],
    [
      { prometheus: { url: "p:9090", remoteWriteUrl: "http://p/" } },
      "prometheus.url: a value found, expected a URL that",
    ],
    [{ prometheus: { remoteWriteUrl: "http://a%zz@p/" } }, "remoteWriteUrl: a value found, expected % in user and"],
    [
      { prometheus: { headers: { a: "b\nc" } } },
      "prometheus.headers: a value found, expected names and values of HTTP",
    ],
    [{ clickhouse: { password: 5 } }, "clickhouse.password: a value found, expected string"],
    [{ cluster: "a/b" }, "cluster:"],
    [{ log: "loud" }, 'log: "loud" found, expected one of debug, info, warning, error'],
    [[1], "[1] found, expected a map of fields"],
    ["text", '"text" found, expected a map'],
  ])("%#", (content, message) => {
    expect(problems(content).join("\n")).toContain(message);
  });

  it("names the variable that a wrong value came from, and all problems at once", () => {
    const all = problems({ log: 1 }, { COROOT_PORT: "eighty", COROOT_HOST: "example.org" });
    expect(all).toHaveLength(3);
    expect(all.join("\n")).toContain('server.port: "eighty" found (from COROOT_PORT), expected a whole number');
    expect(all.join("\n")).toContain("(from COROOT_HOST)");
  });

  it("says which file cannot be read or parsed", async () => {
    const missing = await Effect.runPromise(Effect.flip(loadConfig({ path: "/nonexistent/c.yaml", env: {} })));
    expect(missing.message).toContain("/nonexistent/c.yaml");
    expect(missing.message).toContain("ENOENT");
    const broken = await Effect.runPromise(Effect.flip(loadConfig({ path: file("b.yaml", "a: [1,"), env: {} })));
    expect(broken.message).toContain("is no YAML or JSON");
  });
});
