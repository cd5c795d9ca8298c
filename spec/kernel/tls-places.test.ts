/** Where the probe would hook a library: always the first byte of an instruction, as the disassembler sees it. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { beforeAll, expect, it } from "vitest";
import { describeWith, findProgram } from "../capabilities.ts";
import { buildProbe, probePath } from "./ProbeBed.ts";

const LIBRARY = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
const files = [LIBRARY, process.execPath].filter((file) => existsSync(file) && findProgram("objdump") !== null);

interface Place {
  readonly offset: number;
  readonly what: string;
  readonly slow: boolean;
}
const placesOf = (file: string): readonly Place[] =>
  execFileSync(probePath, ["--tls-places", file], { encoding: "utf8" })
    .trim()
    .split("\n")
    .map((line) => {
      const [offset = "", ...words] = line.split(" ");
      return { offset: Number.parseInt(offset, 16), what: words.slice(0, 2).join(" "), slow: words[2] === "slow" };
    });

/** The first instruction at an address, from a disassembly that begins at the function's start. */
const instructionAt = (file: string, from: number, at: number): string | undefined => {
  const text = execFileSync(
    "objdump",
    ["-d", "--no-show-raw-insn", `--start-address=${from}`, `--stop-address=${at + 16}`, file],
    { encoding: "utf8" },
  );
  return new RegExp(`^ *${at.toString(16)}:\\t(.*)$`, "m").exec(text)?.[1];
};

describeWith(["toolchain"], "places in the code of TLS libraries", () => {
  beforeAll(buildProbe);

  it.each(files)("are instructions of %s", (file) => {
    const symbols = execFileSync("readelf", ["-W", "--dyn-syms", file], {
      encoding: "utf8",
      maxBuffer: 256 * 1024 * 1024,
    });
    // where the file is mapped to other addresses than its offsets
    const segment = /^ +LOAD +0x(\S+) 0x(\S+) \S+ \S+ \S+ R E/m.exec(
      execFileSync("readelf", ["-lW", file], { encoding: "utf8" }),
    );
    const shift = Number.parseInt(segment?.[2] ?? "0", 16) - Number.parseInt(segment?.[1] ?? "0", 16);
    const functions = ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_free"].map((name) => {
      const found = new RegExp(`: ([0-9a-f]+) +(\\d+) FUNC .* ${name}(@|$)`, "m").exec(symbols);
      return { from: Number.parseInt(found?.[1] ?? "0", 16), size: Number(found?.[2] ?? 0) };
    });
    const places = placesOf(file);
    for (const { offset, what, slow } of places) {
      const at = offset + shift;
      const home = functions.find(({ from, size }) => at >= from && at < from + size);
      expect(home, `${what} at ${at.toString(16)}`).toBeDefined();
      const instruction = instructionAt(file, home?.from ?? 0, at);
      expect(instruction, `${what} at ${at.toString(16)}`).toBeDefined();
      // what the kernel emulates, and returns where nothing better says the same
      expect(instruction).toMatch(slow ? (what.endsWith("return") ? /^ret/ : /^/) : /^(push|j[a-z]+) /);
    }
    expect(places.filter(({ what }) => what.endsWith("entry"))).toHaveLength(5);
    for (const name of ["read", "read-ex", "write", "write-ex"])
      expect(places.filter(({ what }) => what === `${name} return`).length).toBeGreaterThan(0);
  });

  it("says why there is nothing to hook", () => {
    const said = spawnSync(probePath, ["--tls-places", probePath], { encoding: "utf8" });
    expect([said.status, said.stdout]).toEqual([1, "nothing: no TLS library that we know, or no symbols\n"]);
    expect(spawnSync(probePath, ["--tls-places", "/etc/passwd"], { encoding: "utf8" }).stdout).toBe(
      "nothing: its executable cannot be read\n",
    );
  });
});
