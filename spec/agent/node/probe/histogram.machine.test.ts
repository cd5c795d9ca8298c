import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { bucketOf, HISTOGRAM_BUCKETS } from "../../../../schemas/wire/histogram.ts";
import { describeWith } from "../../../capabilities.ts";

const bpf = join(dirname(fileURLToPath(import.meta.url)), "../../../../bpf");
const PROGRAM = `#include <stdio.h>
typedef unsigned int u32; typedef unsigned long long u64;
#include "include/shared.h"
#include "lib/histogram.h"
int main(void) { u64 ns; while (scanf("%llu", &ns) == 1) printf("%u\\n", bucket_of(ns)); }
`;

/** Nanoseconds from below the first bucket to above the last, 40 in each octave. */
const values: readonly number[] = [
  0,
  1,
  999,
  ...Array.from({ length: 28 * 40 }, (_, i) => Math.round(1000 * 2 ** (i / 40))),
  2 ** 50,
];

describeWith(["toolchain"], "histogram of the kernel side", () => {
  it("has the buckets of the wire, to within half a percent at their bounds", () => {
    const folder = mkdtempSync(join(tmpdir(), "coroot-histogram-"));
    writeFileSync(join(folder, "main.c"), PROGRAM);
    const inline = "-D__always_inline=inline __attribute__((always_inline))";
    execFileSync("gcc", ["-O1", inline, `-I${bpf}`, join(folder, "main.c"), "-o", join(folder, "main")]);
    const buckets = execFileSync(join(folder, "main"), { input: values.join("\n"), encoding: "utf8" })
      .trim()
      .split("\n")
      .map(Number);
    rmSync(folder, { recursive: true });
    expect(buckets).toHaveLength(values.length);
    for (const [i, ns] of values.entries()) {
      const either = [bucketOf((ns / 1e6) * 0.995), bucketOf((ns / 1e6) * 1.005)];
      expect(either, `${ns} ns`).toContain(buckets[i]);
    }
    expect(Math.max(...buckets)).toBe(HISTOGRAM_BUCKETS - 1);
  });
});
