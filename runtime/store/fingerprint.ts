/**
 * Identity of a time series: 64 bits. The high half comes from the metric's name and the service or container that it is
 * about, so that the series that one chart reads lie side by side in the store; the low half from all labels. Pure and
 * stable: stored rows depend on it, so it must never change.
 */
export interface Fingerprint {
  readonly high: number;
  readonly low: number;
}

/** Two mixed 32-bit hashes of a text's UTF-16 units (the "cyrb" construction on murmur's finaliser). */
const hash = (text: string, seed: number): Fingerprint => {
  let a = 0xdeadbeef ^ seed;
  let b = 0x41c6ce57 ^ seed;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return { high: b >>> 0, low: a >>> 0 };
};

/** Labels that name what a series is about, best first. */
const SUBJECT = ["service", "container_id", "container", "app_id", "instance"] as const;

export const fingerprint = (name: string, labels: Readonly<Record<string, string>>): Fingerprint => {
  const subject = SUBJECT.map((label) => labels[label]).find((value) => value !== undefined) ?? "";
  const parts = Object.keys(labels)
    .sort()
    .map((label) => `${label}\u0001${labels[label] ?? ""}`);
  return {
    high: hash(`${name}\u0000${subject}`, 0).high,
    low: hash(`${name}\u0000${parts.join("\u0000")}`, 1).low,
  };
};

/** As the store's UInt64, in decimal. */
export const fingerprintText = ({ high, low }: Fingerprint): string => String((BigInt(high) << 32n) | BigInt(low));
