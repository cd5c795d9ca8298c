/**
 * Mounts of a process as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5)). Pure.
 */
export interface MountInfo {
  /** as the probe tells it */
  readonly id: number;
  /** "major:minor"; major 0: no block device of its own */
  readonly device: string;
  /** what of the file system is mounted */
  readonly root: string;
  /** as the process sees it, if it can */
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
}

const unescaped = (field: string): string =>
  field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
/** A reader gives one character per byte. */
const utf8 = (field: string): string => Buffer.from(field, "latin1").toString("utf8");

/** Lines that are cut off or of another form are left out. */
export const parseMountinfo = (text: string): readonly MountInfo[] =>
  text.split("\n").flatMap((line): readonly MountInfo[] => {
    const [before = "", after] = line.split(" - ");
    const [id, , device, root, mountPoint] = before.split(" ");
    const [type, source] = after?.split(" ") ?? [];
    if (device === undefined || root === undefined || mountPoint === undefined) return [];
    if (type === undefined || source === undefined) return [];
    const [path, at, from] = [root, mountPoint, source].map((field) => utf8(unescaped(field))) as [
      string,
      string,
      string,
    ];
    return [{ id: Number(id), device, root: path, mountPoint: at, type, source: from }];
  });

/** What lies on a disk of this node though its device is none: it, too, can be full. */
const ON_DISK: ReadonlySet<string> = new Set(["overlay", "btrfs", "zfs", "bcachefs"]);

/** File systems of other machines and of programs are left out, since asking them may take for ever. */
export const isOnDisk = ({ device, type }: MountInfo): boolean =>
  !type.startsWith("fuse") && (!device.startsWith("0:") || ON_DISK.has(type));

/** Name of a Kubernetes volume (`pvc-…`), "" for others. */
export const volumeOf = ({ root, source, mountPoint }: MountInfo): string =>
  /pvc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(`${source} ${root} ${mountPoint}`)?.[0] ?? "";
