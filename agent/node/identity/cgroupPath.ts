/**
 * Who owns a cgroup: reads the text of /proc/PID/cgroup (v1, v2 and hybrid) and names the Pod, container or systemd unit
 * that a path belongs to. Pure; owned by the process table. Paths it does not know give null and the process is then
 * named by its program; nothing here fails or runs on.
 */
export interface CgroupPaths {
  /** path in the unified hierarchy, null when the process is in none */
  readonly unified: string | null;
  /** path per v1 controller (`cpu`, `memory`, `name=systemd`, …) */
  readonly controllers: ReadonlyMap<string, string>;
}

export type ContainerRuntime = "docker" | "containerd" | "crio" | "podman" | "unknown";

/** `path` is the owner's own cgroup: what is below it belongs to the owner too. */
export type CgroupOwner =
  | {
      readonly kind: "container";
      readonly runtime: ContainerRuntime;
      readonly containerId: string;
      readonly podUid: string | null;
      readonly path: string;
    }
  | { readonly kind: "pod"; readonly podUid: string; readonly path: string }
  /** `unit` is the whole name (`postgresql@15-main.service`), `name` the service (`postgresql`) */
  | { readonly kind: "unit"; readonly unit: string; readonly name: string; readonly path: string };

export const parseCgroup = (text: string): CgroupPaths => {
  const controllers = new Map<string, string>();
  let unified: string | null = null;
  for (const line of text.split("\n")) {
    const first = line.indexOf(":");
    const second = line.indexOf(":", first + 1);
    if (first < 0 || second < 0) continue;
    const path = line.slice(second + 1);
    if (path === "" || path.endsWith(" (deleted)")) continue;
    const names = line.slice(first + 1, second);
    if (names === "") unified = path;
    else for (const name of names.split(",")) controllers.set(name, path);
  }
  return { unified, controllers };
};

const HEX64 = /^[0-9a-f]{64}$/;
const SCOPED = /^(docker|cri-containerd|crio|libpod|nerdctl|containerd)-([0-9a-f]{64})(?:\.scope)?$/;
/** containerd with the systemd driver and an old runc: `kubepods-burstable-podUID.slice:cri-containerd:ID` */
const COLONS = /^(.*):(cri-containerd|docker|crio|containerd):([0-9a-f]{64})$/;
const POD =
  /(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$/;
const RUNTIMES: Readonly<Record<string, ContainerRuntime>> = {
  docker: "docker",
  "cri-containerd": "containerd",
  containerd: "containerd",
  nerdctl: "containerd",
  crio: "crio",
  libpod: "podman",
};

const unescapeUnit = (name: string): string =>
  name.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

/** The Pod, container or unit of one path, the innermost container first; null for root, sessions, scopes and the rest. */
export const cgroupOwner = (path: string): CgroupOwner | null => {
  const parts = path.split("/").filter((part) => part !== "");
  const upTo = (index: number): string => `/${parts.slice(0, index + 1).join("/")}`;
  let podUid: string | null = null;
  let podAt = -1;
  let container: { runtime: ContainerRuntime; id: string; at: number } | null = null;
  let above: ContainerRuntime = "unknown";
  for (const [at, part] of parts.entries()) {
    if (part.startsWith("crio-conmon-") || part.startsWith("libpod-conmon-")) return null;
    const colons = COLONS.exec(part);
    const pod = POD.exec(colons?.[1] ?? part);
    if (pod?.[1] !== undefined) {
      podUid = pod[1].replaceAll("_", "-");
      podAt = at;
    }
    const scoped = SCOPED.exec(part);
    if (scoped?.[2] !== undefined) container = { runtime: RUNTIMES[scoped[1] ?? ""] ?? "unknown", id: scoped[2], at };
    else if (colons?.[3] !== undefined)
      container = { runtime: RUNTIMES[colons[2] ?? ""] ?? "unknown", id: colons[3], at };
    else if (HEX64.test(part)) container = { runtime: above, id: part, at };
    if (part === "docker") above = "docker";
    else if (part.startsWith("kubepods")) above = "containerd";
  }
  if (container !== null)
    return {
      kind: "container",
      runtime: container.runtime,
      containerId: container.id,
      podUid,
      path: upTo(container.at),
    };
  if (podUid !== null) return { kind: "pod", podUid, path: upTo(podAt) };
  if (parts[0]?.endsWith(".slice") !== true) return null;
  for (const [at, part] of parts.entries()) {
    if (part.endsWith(".scope")) return null;
    if (!part.endsWith(".service") || /^user@\d+\.service$/.test(part)) continue;
    const unit = unescapeUnit(part);
    const base = unit.slice(0, -".service".length);
    const instanceAt = base.indexOf("@");
    return { kind: "unit", unit, name: instanceAt > 0 ? base.slice(0, instanceAt) : base, path: upTo(at) };
  }
  return null;
};

/** Controllers in the order in which their paths are believed, as the kubelet, systemd and container runtimes set them. */
const ORDER = ["cpu", "memory", "cpuacct", "name=systemd", "pids"];

/** The owner by all paths of a process: Kubernetes first, then the unified path, then v1 controllers in order. */
export const ownerOf = (paths: CgroupPaths): CgroupOwner | null => {
  const candidates: string[] = [];
  for (const controller of ["cpu", "memory"]) {
    const path = paths.controllers.get(controller);
    if (path !== undefined && path.includes("kubepods")) candidates.push(path);
  }
  if (paths.unified !== null) candidates.push(paths.unified);
  for (const controller of ORDER) {
    const path = paths.controllers.get(controller);
    if (path !== undefined) candidates.push(path);
  }
  for (const path of candidates) {
    const owner = cgroupOwner(path);
    if (owner !== null) return owner;
  }
  return null;
};

/** What the same owner is called in another hierarchy, so that both are known to be one: unit name or container id. */
export const ownerKey = (owner: CgroupOwner): string =>
  owner.kind === "unit" ? owner.unit : owner.kind === "pod" ? owner.podUid : owner.containerId;
