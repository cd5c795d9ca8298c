/**
 * Layout of the probe's frames: the TypeScript side of bpf/include/frames.h. A spec holds it against what
 * `probe --layout` prints, so a change on one side alone fails the tests.
 */
export const FRAME_MAGIC = 0x31425250;
export const FRAME_MAJOR = 1;
export const HEADER_BYTES = 8;
/** No frame is longer: it bounds what a broken probe can make us hold. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;

export const FRAME = {
  hello: 1,
  capability: 2,
  edge: 3,
  gone: 4,
  tcp: 5,
  l7: 6,
  hist: 7,
  pending: 8,
  pair: 9,
  event: 10,
  self: 11,
  tick: 12,
  end: 13,
  name: 14,
  io: 15,
  ioHist: 16,
  tls: 20,
  span: 21,
} as const;

/** Size and member offsets of each struct, in bytes. */
export const LAYOUT = {
  header: { size: 8, length: 0, kind: 4 },
  hello: { size: 24, magic: 0, major: 4, minor: 6, buckets: 8, pid: 12, mono_ns: 16 },
  capability: { size: 192, feature: 0, state: 32, error: 36, reason: 40 },
  edge: { size: 48, id: 0, netns: 4, tgid: 8, port: 12, role: 14, peer: 16, local: 32 },
  tcp: {
    size: 64,
    bytes_out: 0,
    bytes_in: 8,
    connect_ns: 16,
    rtt_us: 24,
    edge: 32,
    opens: 36,
    failed: 40,
    closes: 44,
    active: 48,
    retransmits: 52,
    rtt_count: 56,
  },
  l7: { size: 24, sum_ns: 0, edge: 8, count: 12, protocol: 16, status: 17, detail: 18 },
  hist: { size: 12, row: 0, count: 4, bucket: 8 },
  pending: { size: 24, oldest_ns: 0, edge: 8, count: 12, protocol: 16 },
  pair: { size: 24, edge: 0, port: 4, ip: 8 },
  event: {
    size: 208,
    mono_ns: 0,
    cgroup: 8,
    memory_cgroup: 16,
    rss_bytes: 24,
    anon_bytes: 32,
    shmem_bytes: 40,
    kind: 48,
    pid: 52,
    ppid: 56,
    code: 60,
    comm: 64,
    filename: 80,
  },
  name: { size: 512, mono_ns: 0, edge: 8, latency_us: 12, length: 16, type: 18, status: 20, rcode: 21, data: 24 },
  span: {
    size: 712,
    t0: 0,
    ns: 8,
    socket: 16,
    parent: 24,
    edge: 32,
    tgid: 36,
    thread: 40,
    seq: 44,
    initial: 48,
    weight: 56,
    count: 60,
    length: 64,
    reply_length: 66,
    proto: 68,
    status: 69,
    classes: 70,
    role: 71,
    head: 72,
    reply: 584,
  },
  io: { size: 40, owner: 0, bytes: 8, sum_ns: 16, device: 24, count: 28, errors: 32, what: 36 },
  self: { size: 32, name: 0, value: 24 },
  tls: { size: 80, connections: 0, tgid: 8, state: 12, reason: 16 },
  tick: { size: 16, tick: 0, mono_ns: 8 },
} as const;
