/** How `npm test` counts: nothing that failed may be counted as anything else. */
import { describe, expect, it } from "vitest";
import { closingLine, probeRequired, readReport, skipLines } from "../../../deploy/bin/test.mjs";

const test = (status: string, title: string, ...ancestorTitles: readonly string[]) => ({
  status,
  title,
  ancestorTitles,
});

describe("the runner's report", () => {
  it("is counted by test", () => {
    const report = readReport({
      success: false,
      testResults: [
        { name: "spec/a.test.ts", status: "passed", assertionResults: [test("passed", "one"), test("passed", "two")] },
        {
          name: "spec/b.test.ts",
          status: "failed",
          assertionResults: [test("failed", "three", "b"), test("skipped", "x [needs wrk: none]")],
        },
      ],
    });
    expect(report).toMatchObject({ passed: 2, failed: 1, skipped: 1, failures: ["spec/b.test.ts > b > three"] });
  });

  it("of a file that did not load is one failure", () => {
    const report = readReport({
      success: false,
      testResults: [{ name: "spec/a.test.ts", status: "failed", assertionResults: [] }],
    });
    expect(report).toMatchObject({ failed: 1, failures: ["spec/a.test.ts (did not run)"] });
  });

  it("counts what a failed hook kept from running as failed, beside a failure and a skip of our own", () => {
    const tests = [test("failed", "one"), test("skipped", "two", "s"), test("skipped", "x [needs wrk: none]")];
    const report = readReport({
      success: false,
      testResults: [{ name: "spec/a.test.ts", status: "failed", assertionResults: tests }],
    });
    expect(report).toMatchObject({ passed: 0, failed: 2, skipped: 1 });
    expect(report.failures[1]).toBe("spec/a.test.ts > s > two (did not run)");
  });

  it("with an error outside of any test is one failure", () => {
    expect(readReport({ success: false, testResults: [] }).failed).toBe(1);
  });
});

describe("skips", () => {
  it("are shown by reason, with how many and where", () => {
    const why = "[needs redis: no redis-server on PATH (Debian: redis-server)]";
    const lines = skipLines([
      { title: `cache ${why} > one`, file: "spec/a.test.ts" },
      { title: `cache ${why} > two`, file: "spec/a.test.ts" },
      { title: "lonely", file: "spec/b.test.ts" },
    ]);
    expect(lines).toEqual([
      "2 skipped: needs redis: no redis-server on PATH (Debian: redis-server) (spec/a.test.ts)",
      '1 skipped: "lonely" states no reason (spec/b.test.ts)',
    ]);
  });
});

describe("closing line", () => {
  it("names skips only when there are some", () => {
    expect(closingLine({ passed: 3, failed: 0, skipped: 0 })).toBe("3 passed, 0 failed");
    expect(closingLine({ passed: 3, failed: 1, skipped: 2 })).toBe("3 passed, 1 failed, 2 skipped");
  });
});

describe("the probe", () => {
  it("may be off, unless COROOT_REQUIRE names what it needs", () => {
    expect(probeRequired(undefined)).toBe(false);
    expect(probeRequired("root,redis")).toBe(false);
    expect(probeRequired("root, bpf")).toBe(true);
  });
});
