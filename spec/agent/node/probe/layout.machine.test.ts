import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { LAYOUT } from "../../../../agent/node/probe/layout.ts";
import { describeWith } from "../../../capabilities.ts";
import { buildProbe, probePath } from "../../../kernel/ProbeBed.ts";

describeWith(["toolchain"], "layout of the probe's frames", () => {
  it("is the same in C and TypeScript", () => {
    buildProbe();
    expect(JSON.parse(execFileSync(probePath, ["--layout"], { encoding: "utf8" }))).toEqual(LAYOUT);
  });
});
