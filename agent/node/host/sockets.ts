/**
 * Listening sockets and own addresses of a network namespace, from /proc/PID/net (tcp, tcp6, fib_trie, if_inet6) and the
 * descriptors of its processes. Parsers are pure; the finder is owned by the observer and reads a bounded number of
 * descriptors per round. A socket whose owner may not be seen is left out and counted as unowned.
 */
import { readdirSync, readlinkSync } from "node:fs";
import { addressText } from "../../../schemas/wire/address.ts";
import { errnoOf } from "./Reader.ts";

export interface ListeningSocket {
  readonly address: string;
  readonly port: number;
  readonly inode: number;
}

const bytesOf = (hex: string): number[] => {
  // The kernel prints 32-bit words in the machine's order (little-endian here).
  const bytes: number[] = [];
  for (let word = 0; word < hex.length; word += 8)
    for (let i = 6; i >= 0; i -= 2) bytes.push(Number.parseInt(hex.slice(word + i, word + i + 2), 16));
  return bytes;
};

const formatIp = (bytes: readonly number[]): string =>
  bytes.length === 4 ? bytes.join(".") : addressText(Uint8Array.from(bytes), 0);

/** The listening rows of /proc/PID/net/tcp or tcp6; the kernel prints them before all others. */
export const parseListening = (text: string): ListeningSocket[] => {
  const sockets: ListeningSocket[] = [];
  for (const line of text.split("\n").slice(1)) {
    const fields = line.trim().split(/\s+/);
    if (fields.length < 10) continue;
    if (fields[3] !== "0A") break;
    const [hex, port] = (fields[1] ?? "").split(":");
    if (hex === undefined || port === undefined) continue;
    sockets.push({ address: formatIp(bytesOf(hex)), port: Number.parseInt(port, 16), inode: Number(fields[9]) });
  }
  return sockets;
};

/** Local IPv4 addresses from /proc/PID/net/fib_trie (host routes of type LOCAL). */
export const parseFibTrie = (text: string): string[] => {
  const found = new Set<string>();
  let last = "";
  for (const line of text.split("\n")) {
    const address = /\|-- (\d+\.\d+\.\d+\.\d+)/.exec(line);
    if (address?.[1] !== undefined) last = address[1];
    else if (line.includes("/32 host LOCAL") && last !== "") found.add(last);
  }
  return [...found];
};

/** Local IPv6 addresses from /proc/PID/net/if_inet6, without link-local ones (they need a scope to be dialled). */
export const parseIfInet6 = (text: string): string[] =>
  text.split("\n").flatMap((line) => {
    const hex = line.slice(0, 32);
    if (!/^[0-9a-f]{32}$/.test(hex) || hex.startsWith("fe80")) return [];
    const bytes: number[] = [];
    for (let i = 0; i < 32; i += 2) bytes.push(Number.parseInt(hex.slice(i, i + 2), 16));
    return [formatIp(bytes)];
  });

/** A wildcard stands for every address of the namespace; "::" also takes IPv4 callers. */
export const expandAddress = (address: string, ipv4: readonly string[], ipv6: readonly string[]): readonly string[] =>
  address === "0.0.0.0" ? ipv4 : address === "::" ? [...ipv4, ...ipv6] : [address];

/** Sockets by inode among the descriptors of one process; `null` when we may not look. */
export const socketInodes = (
  proc: string,
  pid: number,
): { readonly inodes: readonly number[]; readonly errno: number } => {
  const inodes: number[] = [];
  let names: string[];
  try {
    names = readdirSync(`${proc}/${pid}/fd`);
  } catch (error) {
    return { inodes, errno: errnoOf(error) };
  }
  for (const name of names) {
    try {
      const match = /^socket:\[(\d+)\]$/.exec(readlinkSync(`${proc}/${pid}/fd/${name}`));
      if (match?.[1] !== undefined) inodes.push(Number(match[1]));
    } catch (error) {
      // The descriptor was closed meanwhile; anything else would have refused the folder already.
      if (errnoOf(error) !== 2) return { inodes, errno: errnoOf(error) };
    }
  }
  return { inodes, errno: 0 };
};
