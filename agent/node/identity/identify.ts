/**
 * From process to service: a container or Pod by its cgroup, else a systemd unit, else the program (with the node as its
 * namespace). Pure; owned by the process table. A container's name comes from the runtime later (`named`); without a
 * runtime socket it is the short id, and in Kubernetes the cluster agent brings the workload's name by container id.
 */
import type { ServiceKind } from "../../../schemas/wire/observe.ts";
import { ownerKey, ownerOf, parseCgroup, cgroupOwner, type CgroupPaths } from "./cgroupPath.ts";
import { programOf, type ProgramInput } from "./program.ts";

/** The owner's own cgroup per hierarchy, null where it has none there (root, or somebody else's). */
export interface CgroupFolders {
  readonly unified: string | null;
  readonly cpu: string | null;
  readonly cpuacct: string | null;
  readonly memory: string | null;
  readonly blkio: string | null;
}

export interface Identity {
  readonly kind: ServiceKind;
  readonly namespace: string;
  readonly name: string;
  /** container id or unit; null for a Process, whose instance is the oldest process of its family */
  readonly instance: string | null;
  readonly exe: string;
  readonly type: string;
  /** not a service by itself: reported only while it listens or talks */
  readonly quiet: boolean;
  /** full container id while its name has to be asked for */
  readonly container: string | null;
  readonly folders: CgroupFolders;
}

export interface IdentityInput extends ProgramInput {
  readonly cgroup: string;
  readonly node: string;
}

const NO_FOLDERS: CgroupFolders = { unified: null, cpu: null, cpuacct: null, memory: null, blkio: null };

/** Units that run the machine itself. */
const QUIET_UNIT =
  /^(systemd-.*|dbus(-broker)?|getty|serial-getty|console-getty|cron|crond|rsyslog|polkit|snapd.*|udisks2|accounts-daemon|ModemManager|multipathd|unattended-upgrades|networkd-dispatcher|packagekit|apt-daily.*|ssh|sshd|user|user-runtime-dir)$/;

const foldersOf = (paths: CgroupPaths, key: string): CgroupFolders => {
  const own = (path: string | null | undefined): string | null => {
    if (path === null || path === undefined) return null;
    const owner = cgroupOwner(path);
    return owner !== null && ownerKey(owner) === key ? owner.path : null;
  };
  return {
    unified: own(paths.unified),
    cpu: own(paths.controllers.get("cpu")),
    cpuacct: own(paths.controllers.get("cpuacct")),
    memory: own(paths.controllers.get("memory")),
    blkio: own(paths.controllers.get("blkio")),
  };
};

export const identify = (input: IdentityInput): Identity => {
  const paths = parseCgroup(input.cgroup);
  const owner = ownerOf(paths);
  const program = programOf(input);
  const base = { namespace: input.node, exe: input.exe, type: program.type };
  if (owner === null)
    return {
      ...base,
      kind: "Process",
      name: program.name,
      instance: null,
      quiet: program.tool,
      container: null,
      folders: NO_FOLDERS,
    };
  const folders = foldersOf(paths, ownerKey(owner));
  if (owner.kind === "unit")
    return {
      ...base,
      kind: "SystemdUnit",
      name: owner.name,
      instance: owner.unit,
      quiet: QUIET_UNIT.test(owner.name),
      container: null,
      folders,
    };
  const id = owner.kind === "pod" ? owner.podUid : owner.containerId;
  return {
    ...base,
    kind: "Container",
    name: owner.kind === "pod" ? `pod-${id.slice(0, 12)}` : id.slice(0, 12),
    instance: id,
    quiet: false,
    // Pods are named by the cluster agent; asking Docker for them would give the kubelet's internal names.
    container: owner.kind === "container" && owner.runtime === "docker" && owner.podUid === null ? id : null,
    folders,
  };
};
