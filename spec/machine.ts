/**
 * What this machine can do for tests and benchmarks, in one list: each capability is looked for for real (rights, kernel
 * files, programs), at most once per process and only when asked. Knows no test runner. Holds nothing to stop.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

export interface Capability {
  readonly available: boolean;
  /** what was found, or why it is missing */
  readonly reason: string;
}

const yes = (reason: string): Capability => ({ available: true, reason });
const no = (reason: string): Capability => ({ available: false, reason });

/** The path of a program, also in the places that only root has on its PATH; null when there is none. */
export const findProgram = (name: string): string | null => {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  for (const folder of folders) {
    if (folder === "") continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return null;
};

/** Folder of PostgreSQL's server programs (initdb, postgres), newest version first; null when not installed. */
export const postgresBin = (): string | null => {
  const base = "/usr/lib/postgresql";
  const versions = existsSync(base) ? readdirSync(base).toSorted((a, b) => Number(b) - Number(a)) : [];
  for (const version of versions) {
    const bin = join(base, version, "bin");
    if (existsSync(join(bin, "initdb")) && existsSync(join(bin, "postgres"))) return bin;
  }
  return null;
};

/** Path of a Chromium to drive, null when there is none. */
export const chromiumPath = (): string | null =>
  ["chromium", "chromium-browser", "google-chrome"].map(findProgram).find((path) => path !== null) ?? null;

const program = (name: string, debian: string) => (): Capability => {
  const path = findProgram(name);
  return path === null ? no(`no ${name} on PATH (Debian: ${debian})`) : yes(path);
};

const effectiveRight = (bit: number): boolean => {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return line?.[1] !== undefined && ((BigInt(`0x${line[1]}`) >> BigInt(bit)) & 1n) === 1n;
};
const CAP_SYS_ADMIN = 21;
const CAP_BPF = 39;

const root = (): Capability => (process.getuid?.() === 0 ? yes("uid 0") : no("not running as root"));

const btf = (): Capability =>
  existsSync("/sys/kernel/btf/vmlinux")
    ? yes("/sys/kernel/btf/vmlinux")
    : no("the kernel offers no /sys/kernel/btf/vmlinux");

const toolchain = (): Capability => {
  const missing = ["clang", "bpftool", "gcc"].filter((name) => findProgram(name) === null);
  const headers = [
    ["/usr/include/bpf/bpf_helpers.h", "libbpf-dev"],
    ["/usr/include/libelf.h", "libelf-dev"],
    ["/usr/include/zlib.h", "zlib1g-dev"],
  ] as const;
  const absent = headers.filter(([path]) => !existsSync(path)).map(([, debian]) => debian);
  const all = [...missing, ...absent];
  return all.length === 0
    ? yes("clang, bpftool, gcc, libbpf")
    : no(`the probe cannot be compiled without ${all.join(", ")}`);
};

const bpf = (): Capability => {
  for (const need of [root(), btf(), toolchain()]) if (!need.available) return need;
  return effectiveRight(CAP_BPF) || effectiveRight(CAP_SYS_ADMIN)
    ? yes("root with CAP_BPF and a kernel with BTF")
    : no("root without CAP_BPF and CAP_SYS_ADMIN (a container?)");
};

const netns = (): Capability => {
  if (findProgram("ip") === null) return no("no ip on PATH (Debian: iproute2)");
  const tried = spawnSync("unshare", ["--net", "true"], { stdio: "ignore" });
  return tried.status === 0
    ? yes("unshare --net works")
    : no("may not make a network namespace (unshare --net failed)");
};

/** Whether a network namespace can have filters and translate addresses. */
const nat = (): Capability => {
  const inside = netns();
  if (!inside.available) return inside;
  if (findProgram("nft") === null) return no("no nft on PATH (Debian: nftables)");
  const rules =
    "add table ip t; add chain ip t c { type nat hook output priority -100; }; add rule ip t c tcp dport 1 dnat to 127.0.0.1:2";
  const tried = spawnSync("unshare", ["--net", findProgram("nft") ?? "nft", rules], { encoding: "utf8" });
  return tried.status === 0
    ? yes("nft in a namespace")
    : no(`the kernel does not translate addresses: ${tried.stderr.trim()}`);
};

/** Where a test may make cgroups: version 2 with cpu and memory, else version 1 with both mounted. */
const cgroup = (): Capability => {
  const v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find((path) => {
    const file = join(path, "cgroup.controllers");
    return existsSync(file) && /\bcpu\b.*\bmemory\b/.test(readFileSync(file, "utf8"));
  });
  const v1 = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"].every((path) => existsSync(join(path, "cgroup.procs")));
  const folders = v2 === undefined ? (v1 ? ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"] : []) : [v2];
  if (folders.length === 0) return no("no cgroup hierarchy with the cpu and memory controllers");
  for (const folder of folders) {
    const child = join(folder, `coroot-capability-${process.pid}`);
    try {
      mkdirSync(child);
      rmdirSync(child);
    } catch (error) {
      return no(`may not make a cgroup in ${folder}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return yes(v2 === undefined ? "cgroup v1" : `cgroup v2 at ${v2}`);
};

/** Whether a file can be made a block device. */
const loop = (): Capability => {
  for (const name of ["losetup", "mkfs.ext4"])
    if (findProgram(name) === null) return no(`no ${name} on PATH (Debian: util-linux, e2fsprogs)`);
  const found = spawnSync("losetup", ["--find"], { encoding: "utf8" });
  return found.status === 0 ? yes(found.stdout.trim()) : no("no loop device can be had (losetup --find failed)");
};

const postgres = (): Capability => {
  const bin = postgresBin();
  return bin === null ? no("no PostgreSQL server in /usr/lib/postgresql (Debian: postgresql)") : yes(bin);
};

const zookeeper = (): Capability => {
  if (findProgram("java") === null) return no("no java on PATH (Debian: default-jre-headless)");
  const jar = "/usr/share/java/zookeeper.jar";
  return existsSync(jar) ? yes(jar) : no(`no ${jar} (Debian: zookeeper)`);
};

const clickhouse = (): Capability => {
  const server = program("clickhouse-server", "clickhouse-server")();
  return server.available ? program("clickhouse-client", "clickhouse-client")() : server;
};

const chromium = (): Capability => {
  const path = chromiumPath();
  return path === null ? no("no chromium on PATH (Debian: chromium)") : yes(path);
};

const chdb = (): Capability => {
  const library = `@chdb/lib-${process.platform}-${process.arch}${process.platform === "linux" ? "-gnu" : ""}`;
  try {
    return yes(createRequire(import.meta.url).resolve(`${library}/package.json`));
  } catch {
    return no(`the embedded engine's library ${library} is not installed`);
  }
};

const detectors = {
  root,
  btf,
  toolchain,
  bpf,
  netns,
  nat,
  cgroup,
  loop,
  postgres,
  redis: program("redis-server", "redis-server"),
  mariadb: program("mariadbd", "mariadb-server"),
  memcached: program("memcached", "memcached"),
  dnsmasq: program("dnsmasq", "dnsmasq-base"),
  zookeeper,
  nats: program("nats-server", "nats-server"),
  rabbitmq: program("rabbitmq-server", "rabbitmq-server"),
  clickhouse,
  nginx: program("nginx", "nginx-light"),
  h2load: program("h2load", "nghttp2-client"),
  nghttpx: program("nghttpx", "nghttp2-proxy"),
  python: program("python3", "python3"),
  wrk: program("wrk", "wrk"),
  openssl: program("openssl", "openssl"),
  curl: program("curl", "curl"),
  wget: program("wget", "wget"),
  go: program("go", "golang-go"),
  prometheus: program("prometheus", "prometheus"),
  "victoria-metrics": program("victoria-metrics", "victoria-metrics"),
  chromium,
  chdb,
} as const;

export type CapabilityName = keyof typeof detectors;
export const capabilityNames = Object.keys(detectors) as readonly CapabilityName[];

const isCapability = (name: string): name is CapabilityName => Object.hasOwn(detectors, name);

const found = new Map<CapabilityName, Capability>();

export const capability = (name: CapabilityName): Capability => {
  const known = found.get(name);
  if (known !== undefined) return known;
  const result = detectors[name]();
  found.set(name, result);
  return result;
};

/** The names in COROOT_REQUIRE; a name that is no capability is an error, so that a typing slip cannot hide a skip. */
export const requiredCapabilities = (list: string | undefined): readonly CapabilityName[] => {
  const names = (list ?? "").split(",").flatMap((part) => (part.trim() === "" ? [] : [part.trim()]));
  const unknown = names.filter((name) => !isCapability(name));
  if (unknown.length > 0)
    throw new Error(`COROOT_REQUIRE names ${unknown.join(", ")}; known are ${capabilityNames.join(", ")}`);
  return names.filter(isCapability);
};

export type Verdict =
  | { readonly kind: "run" }
  | { readonly kind: "skip"; readonly why: string }
  | { readonly kind: "fail"; readonly why: string };

/** What to do with a test that needs these: pure, so that the rule itself is tested. */
export const verdict = (
  needs: readonly CapabilityName[],
  look: (name: CapabilityName) => Capability,
  required: readonly CapabilityName[],
): Verdict => {
  const missing = needs.map((name) => ({ name, ...look(name) })).filter((need) => !need.available);
  if (missing.length === 0) return { kind: "run" };
  const why = missing.map((need) => `${need.name}: ${need.reason}`).join("; ");
  return missing.some((need) => required.includes(need.name)) ? { kind: "fail", why } : { kind: "skip", why };
};
