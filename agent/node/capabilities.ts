/**
 * What the agent can and cannot see on this machine, with the errno and a reason for a person. Owned by the node agent;
 * pure on what the readers counted. Reasons hold no changing figures, since a changed list means a new greeting.
 */
import type { Capability } from "../../schemas/wire/link.ts";
import type { CgroupMounts } from "./host/cgroups.ts";

export interface HostSight {
  readonly mounts: CgroupMounts;
  /** errno of the last process that we might not look into, 0 when all could be */
  readonly processErrno: number;
  readonly listenerErrno: number;
  /** errno and text of the last refusal of the container runtime; null when it answers */
  readonly runtime: { readonly errno: number; readonly reason: string } | null;
  /** last error of the disk under the spool, "" when it takes what we write */
  readonly spoolError: string;
}

const feature = (name: string, state: Capability["state"], errno = 0, reason = ""): Capability => ({
  feature: name,
  state,
  errno,
  reason,
});

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
    sight.processErrno === 0
      ? feature("processes", "on")
      : feature("processes", "degraded", sight.processErrno, `${rights}: their programs cannot be named`),
    cgroups,
    sight.listenerErrno === 0
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
