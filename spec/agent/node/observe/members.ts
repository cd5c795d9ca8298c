import type { Member } from "../../../../agent/node/observe/Instances.ts";
import type { Identity } from "../../../../agent/node/identity/identify.ts";

const none = { unified: null, cpu: null, cpuacct: null, memory: null, blkio: null };

/** A process as the table would give it, for tests of what is made of it. */
export const member = (
  pid: number,
  more: Partial<Identity> & { readonly ppid?: number; readonly startTicks?: number } = {},
): Member => {
  const { ppid, startTicks, ...identity } = more;
  return {
    pid,
    ppid: ppid ?? 1,
    startTicks: startTicks ?? pid,
    startedAtMs: (startTicks ?? pid) * 10,
    netns: 1,
    identity: {
      kind: identity.instance === undefined || identity.instance === null ? "Process" : "SystemdUnit",
      namespace: "n",
      name: "app",
      instance: null,
      exe: "/usr/bin/app",
      type: "",
      quiet: false,
      container: null,
      folders: none,
      ...identity,
    },
  };
};
