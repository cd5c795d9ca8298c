/** Which file systems instances write to and how full they are, from what the probe tells and /proc/PID/mountinfo says. */
import { describe, expect, it } from "vitest";
import { isOnDisk, parseMountinfo, volumeOf } from "../../../../agent/node/host/mountinfo.ts";
import { Mounts, type Space } from "../../../../agent/node/observe/Mounts.ts";

const VOLUME = "pvc-1b4e28ba-2fa1-11d2-883f-0016d3cca427";
const INFO = [
  "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw",
  "23 22 0:21 / /proc rw,nosuid - proc proc rw",
  `31 22 8:16 /data /var/lib/my\\040db\\134\\303\\251 rw shared:2 master:3 - xfs /dev/sdb rw`,
  `32 22 8:32 / /var/lib/kubelet/pods/x/volumes/${VOLUME}/mount rw - ext4 /dev/sdc rw`,
  "33 22 0:50 / /srv rw - nfs4 10.0.0.9:/export rw",
  "34 22 0:51 / /pool rw - zfs tank/pool rw",
  "35 22 0:52 / /root rw - overlay overlay rw,lowerdir=a,upperdir=b",
  "36 22 8:48 / /fuse rw - fuseblk /dev/sdd rw",
  "37 22 0:53 / /dev/shm rw - tmpfs tmpfs rw",
  "38 22 8:64 / /cut",
].join("\n");

describe("a list of mounts", () => {
  it("is read with its escapes, and lines that are cut off are left out", () => {
    const infos = parseMountinfo(INFO);
    expect(infos).toHaveLength(9);
    expect(infos[2]).toEqual({
      id: 31,
      device: "8:16",
      root: "/data",
      mountPoint: "/var/lib/my db\\é",
      type: "xfs",
      source: "/dev/sdb",
    });
    expect(infos.map(volumeOf).filter((name) => name !== "")).toEqual([VOLUME]);
  });

  it("says what lies on a disk of this node: neither other machines nor memory nor programs are asked", () => {
    expect(
      parseMountinfo(INFO)
        .filter(isOnDisk)
        .map(({ id }) => id),
    ).toEqual([22, 31, 32, 34, 35]);
  });
});

const bed = () => {
  const owners = new Map([
    [100, 1],
    [101, 1],
    [200, 2],
  ]);
  const read: string[] = [];
  const asked: { readonly path: string; readonly answer: (space: Space | null) => Promise<void> }[] = [];
  const mounts = new Mounts({
    reader: { head: (path: string) => (read.push(path), INFO) },
    proc: "/proc",
    ownerOf: (tgid) => {
      const id = owners.get(tgid);
      return id === undefined ? null : { id };
    },
    processOf: (instance) => [...owners].find(([, id]) => id === instance)?.[0] ?? null,
    nameOf: (device) => `disk-${device}`,
    ask: (path) =>
      new Promise((resolve, reject) =>
        asked.push({
          path,
          answer: async (space) => {
            if (space === null) reject(new Error("ENOENT"));
            else resolve(space);
            await new Promise(setImmediate);
          },
        }),
      ),
  });
  return { mounts, owners, read, asked };
};
const space = (usedBytes: number): Space => ({
  sizeBytes: 1_000,
  usedBytes,
  availableBytes: 950 - usedBytes,
  inodesUsed: 0.5,
});
const everyone = (): boolean => true;

describe("mounts of instances", () => {
  it("are those that processes write to, each told once for an instance, every 15 seconds", async () => {
    const { mounts, read, asked } = bed();
    const told = [
      { tgid: 100, mount: 31 },
      { tgid: 101, mount: 31 },
      { tgid: 200, mount: 22 },
      { tgid: 200, mount: 33 },
      { tgid: 200, mount: 999 },
      { tgid: 300, mount: 22 },
    ];
    mounts.absorb(told);
    mounts.absorb(told);
    expect(read).toEqual(["/proc/100/mountinfo", "/proc/101/mountinfo", "/proc/200/mountinfo"]);
    mounts.measure(0);
    mounts.measure(5_000);
    expect(asked.map(({ path }) => path)).toEqual(["/proc/101/root/var/lib/my db\\é", "/proc/200/root/"]);
    for (const one of asked.splice(0)) await one.answer(space(500));
    const path = "/var/lib/my db\\é";
    expect(mounts.flush(everyone)).toEqual([
      { instance: 1, path, device: "disk-8:16", ...space(500) },
      { instance: 2, path: "/", device: "disk-254:1", ...space(500) },
    ]);
    expect(mounts.flush(everyone)).toEqual([]);
    mounts.measure(15_000);
    expect(asked).toHaveLength(2);
    const put: string[] = [];
    mounts.put(
      (name, labels, value) => put.push(`${name} ${labels["mount_point"]} ${labels["device"]} ${value}`),
      {},
      2,
    );
    expect(put).toEqual([
      "container_resources_disk_size_bytes / disk-254:1 1000",
      "container_resources_disk_used_bytes / disk-254:1 500",
      "container_resources_disk_reserved_bytes / disk-254:1 50",
    ]);
  });

  it("stay when nothing is written for a while, by a process that still runs, and go with their instance", async () => {
    const { mounts, owners, asked } = bed();
    mounts.absorb([{ tgid: 100, mount: 31 }]);
    mounts.absorb([]);
    owners.delete(100);
    mounts.measure(0);
    expect(asked[0]?.path).toMatch(/^\/proc\/101\/root\//);
    await asked[0]?.answer(space(1));
    expect(mounts.flush(everyone)).toHaveLength(1);
    mounts.forget((id) => id !== 1);
    mounts.measure(20_000);
    expect(asked).toHaveLength(1);
  });

  it("that do not answer hold up two questions, and are not asked again until they do", async () => {
    const { mounts, asked } = bed();
    mounts.absorb([31, 32, 34].map((mount) => ({ tgid: 100, mount })));
    for (const at of [0, 15_000, 30_000]) mounts.measure(at);
    expect(asked).toHaveLength(2);
    await asked[1]?.answer(null);
    expect(asked).toHaveLength(3);
    await asked[2]?.answer(space(7));
    expect(mounts.flush(everyone).map(({ path }) => path)).toEqual(["/pool"]);
    // what did not answer at the first round is asked again, the one that hangs is not
    mounts.measure(45_000);
    expect(asked).toHaveLength(4);
  });
});
