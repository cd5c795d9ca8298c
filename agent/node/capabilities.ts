/**
 * What the agent can and cannot see on this machine, with the errno and a reason for a person. Owned by the node agent;
 * pure on what the readers counted. Reasons hold no changing figures, since a changed list means a new greeting.
 */
import type { Capability } from "../../schemas/wire/link.ts";
import type { CgroupMounts } from "./host/cgroups.ts";

export interface HostSight {
  readonly mounts: CgroupMounts;
  /** CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: with them a refusal is a process that just ends, not a lack of rights */
  readonly mayLookInside: boolean;
  /** errno of the last process that refused to be looked into, 0 when none did */
  readonly processErrno: number;
  readonly listenerErrno: number;
  /** errno and text of the last refusal of the container runtime; null when it answers */
  readonly runtime: { readonly errno: number; readonly reason: string } | null;
  /** last error of the disk under the spool, "" when it takes what we write */
  readonly spoolError: string;
}

const CAP_DAC_OVERRIDE = 1n;
const CAP_DAC_READ_SEARCH = 2n;
const CAP_SYS_PTRACE = 19n;

/** From the text of /proc/self/status. */
export const mayLookInside = (status: string): boolean => {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const has = (bit: bigint): boolean => ((effective >> bit) & 1n) === 1n;
  return has(CAP_SYS_PTRACE) && (has(CAP_DAC_READ_SEARCH) || has(CAP_DAC_OVERRIDE));
};

const feature = (name: string, state: Capability["state"], errno = 0, reason = ""): Capability => ({
  feature: name,
  state,
  errno,
  reason,
});

const NAMED = 5;

/** `unread`: programs whose TLS is not read, with the reason. */
export const tlsCapability = (unread: readonly string[]): readonly Capability[] => {
  if (unread.length === 0) return [];
  const more = unread.length > NAMED ? `, and ${unread.length - NAMED} more` : "";
  return [
    feature("tls", "degraded", 0, `requests within TLS are not seen: ${unread.slice(0, NAMED).join(", ")}${more}`),
  ];
};

export const hostCapabilities = (sight: HostSight): readonly Capability[] => {
  const { mounts } = sight;
  const rights = "no right to look into other users' processes (needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH)";
  const cgroups =
    mounts.controllers.has("cpu") || mounts.controllers.has("cpuacct")
      ? feature("cgroups", "on")
      : mounts.unified !== null
        ? feature("cgroups", "on")
        : feature(
            "cgroups",
            "off",
            2,
            "no cgroup hierarchy is mounted: no limits and throttling of units and containers",
          );
  return [
    sight.mayLookInside || sight.processErrno === 0
      ? feature("processes", "on")
      : feature("processes", "degraded", sight.processErrno, `${rights}: their programs cannot be named`),
    cgroups,
    sight.mayLookInside || sight.listenerErrno === 0
      ? feature("listeners", "on")
      : feature("listeners", "degraded", sight.listenerErrno, `${rights}: owners of their sockets are not known`),
    sight.runtime === null
      ? feature("docker", "on")
      : feature(
          "docker",
          "off",
          sight.runtime.errno,
          `${sight.runtime.reason}: containers are named by their short id`,
        ),
    sight.spoolError === ""
      ? feature("spool", "on")
      : feature("spool", "degraded", 5, `telemetry is not kept on disk: ${sight.spoolError}`),
  ];
};
