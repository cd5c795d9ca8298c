/**
 * Text of a 16-byte address: dotted for IPv4-mapped ones, RFC 5952 for the rest, empty for all zeros (which stands for
 * "varies" in an edge). Pure.
 */
export const addressText = (bytes: Uint8Array, at: number): string => {
  const word = (i: number): number => ((bytes[at + 2 * i] ?? 0) << 8) | (bytes[at + 2 * i + 1] ?? 0);
  let head = 0;
  for (let i = 0; i < 5; i++) head |= word(i);
  if (head === 0 && word(5) === 0xffff)
    return `${bytes[at + 12] ?? 0}.${bytes[at + 13] ?? 0}.${bytes[at + 14] ?? 0}.${bytes[at + 15] ?? 0}`;
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && word(i + n) === 0) n++;
    if (n > bestLength) {
      best = i;
      bestLength = n;
    }
    i += n;
  }
  if (bestLength === 8) return "";
  const words = (from: number, to: number): string => {
    const out: string[] = [];
    for (let i = from; i < to; i++) out.push(word(i).toString(16));
    return out.join(":");
  };
  return best < 0 ? words(0, 8) : `${words(0, best)}::${words(best + bestLength, 8)}`;
};
