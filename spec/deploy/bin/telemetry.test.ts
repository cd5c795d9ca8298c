/** `coroot logs` and `coroot trace` against a server that runs and was sent lines and spans by OTLP. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { since, oneLine } from "../../../deploy/bin/cli/text.ts";
import { tree } from "../../../deploy/bin/cli/trace.ts";
import { encodeLogRequest, encodeTraces } from "../../runtime/otlp/proto.ts";
import { coroot, type Ended, ensureBuilt, type Started, startCoroot, until } from "./coroot.ts";

let server: Started;
const run = (...args: readonly string[]): Ended => coroot(...args, "--server", server.address);
const NOW = Date.now();
const TRACE = "0af7651916cd43dd8448eb211c80319c";
const nanos = (ms: number): string => `${ms}000000`;
const string = (key: string, stringValue: string) => ({ key, value: { stringValue } });
const resource = (service: string) => ({ attributes: [string("service.name", service)] });

const send = async (path: string, body: Buffer): Promise<void> => {
  const key = readFileSync(join(server.data, "agent.key"), "utf8").trim();
  await until(`${path} takes what is sent`, 30_000, async () => {
    const response = await fetch(`${server.address}${path}`, {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/x-protobuf" },
      body: new Uint8Array(body),
    });
    return response.status === 200 ? true : null;
  });
};

const line = (i: number, severityNumber: number, text: string) => ({
  timeUnixNano: nanos(NOW - 10_000 + i),
  severityNumber,
  body: { stringValue: text },
  attributes: [string("shard", String(i % 2))],
});
const span = (id: string, parent: string, offset: number, ms: number, more: object = {}) => ({
  traceId: Buffer.from(TRACE, "hex"),
  spanId: Buffer.from(id.padStart(16, "0"), "hex"),
  parentSpanId: Buffer.from(parent === "" ? "" : parent.padStart(16, "0"), "hex"),
  startTimeUnixNano: nanos(NOW - 10_000 + offset),
  endTimeUnixNano: nanos(NOW - 10_000 + offset + ms),
  ...more,
});

beforeAll(async () => {
  await ensureBuilt();
  server = await startCoroot("--no-agent");
  await until(server.output, 60_000, async () => (server.output().includes("page ") ? true : null));
  await send(
    "/v1/logs",
    encodeLogRequest({
      resourceLogs: [
        {
          resource: resource("cart"),
          scopeLogs: [
            {
              logRecords: [
                ...Array.from({ length: 30 }, (_, i) => line(i, 9, `order ${i} placed`)),
                line(40, 17, "connection refused:\n  \u001b[31mpostgres\u001b[0m"),
              ],
            },
          ],
        },
      ],
    }),
  );
  await send(
    "/v1/traces",
    encodeTraces({
      resourceSpans: [
        {
          resource: resource("web"),
          scopeSpans: [
            {
              spans: [
                span("a", "", 0, 100, { name: "GET /cart", kind: 2 }),
                span("b", "a", 25, 50, { name: "put", kind: 3, attributes: [string("server.address", "cart")] }),
              ],
            },
          ],
        },
        {
          resource: resource("cart"),
          scopeSpans: [
            { spans: [span("c", "b", 30, 40, { name: "put", kind: 2, status: { code: 2, message: "no\nroom" } })] },
          ],
        },
      ],
    }),
  );
}, 240_000);
afterAll(() => server?.dispose());

describe("coroot logs", () => {
  it("shows the last lines, the newest last, and says that there are more", () => {
    const { code, out, err } = run("logs", "order", "--limit", "3");
    expect(code).toBe(0);
    const lines = out.trimEnd().split("\n");
    expect(lines.map((one) => one.replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} {2}/, ""))).toEqual(
      [27, 28, 29].map((i) => `INFO     cart  order ${i} placed`),
    );
    expect(err).toBe("there are more: only the last 3 lines are shown\n");
  });

  it("finds by severity, service, attributes and phrases, and lets no line steer the terminal", () => {
    const { out, err } = run(
      "logs",
      '"refused:"',
      "--severity",
      "warning",
      "--service",
      "cart,web",
      "--attr",
      "shard=0",
    );
    expect(err).toBe("");
    expect(out).toMatch(/ ERROR {4}cart {2}connection refused: \S*\[31mpostgres\S+\n$/);
    expect(out).not.toContain("\u001b");
    expect(run("logs", "nothing-like-it").out).toBe("no lines\n");
    expect(run("logs", "--since", "2020-01-01", "--until", "2020-01-02").out).toBe("no lines\n");
  });

  it("prints JSON, whole over several pages", () => {
    const lines = run("logs", "--json", "--limit", "2000").out.trimEnd().split("\n");
    expect(lines).toHaveLength(31);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ service: "cart", severity: "info", body: "order 0 placed" });
  });

  it("groups lines by pattern", () => {
    const { out } = run("logs", "--patterns");
    expect(out).toMatch(
      /^LINES {2}SEVERITY {2}FIRST +LAST +PATTERN +SAMPLE\n +30 {2}info .* order \d+ placed\n +1 {2}error /,
    );
    const [group] = run("logs", "--patterns", "--json").out.split("\n");
    const { pattern } = JSON.parse(group ?? "") as { pattern: string };
    expect(run("logs", "--pattern", pattern, "--json").out.trimEnd().split("\n")).toHaveLength(30);
  });

  it("tells what the server does not take", () => {
    const { code, err } = run("logs", "--severity", "loud");
    expect(code).toBe(1);
    expect(err).toContain("400 Bad Request: severity: expected one of trace, debug, info, warning, error, fatal");
  });
});

describe("coroot trace", () => {
  it("draws a waterfall", () => {
    const { code, out } = run("trace", TRACE);
    expect(code).toBe(0);
    const [head, , ...rows] = out.trimEnd().split("\n");
    expect(head).toMatch(new RegExp(`^trace ${TRACE}, .* UTC, 100 ms: 3 spans of 2 services, 1 failed$`));
    expect(rows.map((row) => row.trim())).toEqual([
      "0.00      100      50.00  |========================|  web: GET /cart",
      "25.00    50.00      10.00  |      ============      |    web: put  -> cart",
      "30.00    40.00      40.00  |       ==========       |      cart: put  FAILED no room",
    ]);
  });

  it("prints its spans as JSON, and names one that is not there", () => {
    const spans = run("trace", TRACE.toUpperCase(), "--json").out.trimEnd().split("\n");
    expect(spans.map((one) => (JSON.parse(one) as { name: string }).name)).toEqual(["GET /cart", "put", "put"]);
    const { code, err } = run("trace", "f".repeat(32));
    expect(code).toBe(1);
    expect(err).toContain(`404 Not Found: there is no trace ${"f".repeat(32)}`);
    expect(run("trace", "nonsense").err).toContain("400 Bad Request: id: expected 32 or 16 hex digits");
  });

  it("places spans without their parent, and ones in a circle, once each", () => {
    const spans = [
      { spanId: "1", parentId: "gone" },
      { spanId: "2", parentId: "1" },
      { spanId: "3", parentId: "4" },
      { spanId: "4", parentId: "3" },
      { spanId: "5", parentId: "5" },
      { spanId: "6", parentId: "1" },
    ];
    expect(tree(spans).map(({ span: { spanId }, depth }) => `${String(spanId)} ${depth}`)).toEqual([
      "1 0",
      "2 1",
      "6 1",
      "5 0",
      "3 0",
      "4 1",
    ]);
  });
});

describe("texts for a terminal", () => {
  it("are one line, and obeyed by none", () => {
    expect(oneLine("a\r\n\tb")).toBe("a b");
    expect(oneLine("\u001b]0;title\u0007x\u202ey\u009b1m")).toBe("\ufffd]0;title\ufffdx\ufffdy\ufffd1m");
  });

  it("are times as people write them", () => {
    const now = 1_000_000_000_000;
    expect(["30s", "5m", "2h", "1d"].map((text) => now - since("since", text, now))).toEqual([
      30_000, 300_000, 7_200_000, 86_400_000,
    ]);
    for (const text of ["2026-11-27T02:14Z", "2026-11-27T02:14", "2026-11-27 02:14", "2026-11-27T03:14+01:00"])
      expect(since("since", text, now)).toBe(Date.UTC(2026, 10, 27, 2, 14));
    expect(since("since", "2026-11-27", now)).toBe(Date.UTC(2026, 10, 27));
    for (const text of ["", "soon", "5", "5w", "2026-99-99"])
      expect(() => since("since", text, now), text).toThrow(/--since takes/);
  });
});
