#!/usr/bin/env node
// Builds the probe: BPF object by clang, debug sections dropped by bpftool, loader linked statically around it by gcc.
// Owned by bpf/. Does nothing when the inputs are the ones that the output was built from. Ends with code 3 and the
// Debian packages to install where a tool is missing, with code 1 where a compiler refuses.
//   node bpf/build.mjs [--out dist/probe]
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const at = process.argv.indexOf("--out");
const out = resolve(at > 0 && process.argv[at + 1] ? process.argv[at + 1] : join(here, "..", "dist", "probe"));
const arch = { x64: "x86", arm64: "arm64" }[process.arch];
const PACKAGES = "clang bpftool gcc libc6-dev libbpf-dev libelf-dev zlib1g-dev";

const fail = (code, text) => {
  process.stderr.write(`bpf/build: ${text}\n`);
  process.exit(code);
};
if (process.platform !== "linux" || arch === undefined)
  fail(3, `the probe is built on Linux x64 or arm64, this is ${process.platform} ${process.arch}`);

const files = (dir) =>
  readdirSync(dir, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory() ? files(join(dir, e.name)) : /\.(c|h|mjs)$/.test(e.name) ? [join(dir, e.name)] : [],
  );
const sources = files(here).sort();
const hash = createHash("sha256").update(process.arch);
for (const file of sources) hash.update(relative(here, file)).update("\0").update(readFileSync(file)).update("\0");
const stamp = hash.digest("hex");
const stampFile = `${out}.hash`;
if (existsSync(out) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) process.exit(0);

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const has = (tool, args) => spawnSync(tool, args, { env, stdio: "ignore" }).error === undefined;
const missing = [
  ...[
    ["clang", ["--version"]],
    ["bpftool", ["version"]],
    ["gcc", ["--version"]],
  ].flatMap(([tool, args]) => (has(tool, args) ? [] : [tool])),
  ...["/usr/include/bpf/libbpf.h", "/usr/include/libelf.h", "/usr/include/zlib.h"].flatMap((f) => (existsSync(f) ? [] : [f])),
];
if (missing.length > 0) fail(3, `missing ${missing.join(", ")}; on Debian: apt-get install ${PACKAGES}`);

mkdirSync(dirname(out), { recursive: true });
const work = mkdtempSync(join(dirname(out), ".probe-"));
const run = (tool, args) => {
  const done = spawnSync(tool, args, { env, encoding: "utf8" });
  if (done.status === 0) return;
  rmSync(work, { recursive: true, force: true });
  fail(1, `${tool} ${args.join(" ")}\n${done.stdout ?? ""}${done.stderr ?? ""}`);
};
const full = join(work, "full.o");
const object = join(work, "probe.o");
run("clang", ["-g", "-O2", "-mcpu=v3", "-target", "bpf", `-D__TARGET_ARCH_${arch}`, "-Wall", "-Werror"]
  .concat(["-Wno-unused-function", `-I${here}`, "-c", join(here, "probe.bpf.c"), "-o", full]));
run("bpftool", ["gen", "object", object, full]);
run("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", `-DOBJECT_PATH="${object}"`]
  .concat(sources.filter((f) => f.includes("/probe/") && f.endsWith(".c")))
  .concat(["-o", join(work, "probe"), "-lbpf", "-lelf", "-lz"]));
renameSync(join(work, "probe"), out);
rmSync(work, { recursive: true, force: true });
writeFileSync(stampFile, stamp);
process.stdout.write(`bpf/build: ${relative(process.cwd(), out)}\n`);
