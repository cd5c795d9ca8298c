/**
 * Reads the head of a DNS message (RFC 1035): its question, and the addresses that the answer gives for the asked name,
 * through its chain of CNAMEs. Pure; bytes come from the network, so nothing in them is trusted: null where there is no
 * question, and of answers what comes before the first one that makes no sense or is cut. Never raises.
 */
import { addressText } from "../../../schemas/wire/address.ts";

export interface GivenAddress {
  readonly address: string;
  /** the least of its chain, seconds */
  readonly ttl: number;
}

export interface DnsMessage {
  /** lower case, without the dot at its end; "." is the root. Bytes that are no printable ASCII as \ddd. */
  readonly name: string;
  readonly type: number;
  readonly addresses: readonly GivenAddress[];
}

const HEADER = 12;
const MOST_POINTERS = 16;
const MOST_RECORDS = 64;
const MOST_CHARACTERS = 255;
const TYPE_A = 1;
const TYPE_CNAME = 5;
const TYPE_AAAA = 28;
const CLASS_IN = 1;

const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
const u32 = (bytes: Uint8Array, at: number): number => u16(bytes, at) * 65_536 + u16(bytes, at + 2);

const character = (byte: number): string => {
  if (byte >= 0x41 && byte <= 0x5a) return String.fromCharCode(byte + 32);
  // a dot within a label is not the one between labels
  if (byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c) return String.fromCharCode(byte);
  return `\\${String(byte).padStart(3, "0")}`;
};

/** The name at `from` and where it ends in the message; null: it is none, is cut, or points forwards. */
const readName = (bytes: Uint8Array, from: number): { readonly name: string; readonly end: number } | null => {
  let name = "";
  let at = from;
  let end = -1;
  for (let pointers = 0; ; ) {
    const length = bytes[at];
    if (length === undefined) return null;
    if (length === 0) return { name: name === "" ? "." : name, end: end < 0 ? at + 1 : end };
    if (length >= 0xc0) {
      if (at + 1 >= bytes.byteLength || ++pointers > MOST_POINTERS) return null;
      const to = u16(bytes, at) & 0x3fff;
      if (to >= at) return null;
      if (end < 0) end = at + 2;
      at = to;
      continue;
    }
    if (length > 63 || at + length >= bytes.byteLength) return null;
    if (name !== "") name += ".";
    for (let i = 1; i <= length; i++) name += character(bytes[at + i] ?? 0);
    if (name.length > MOST_CHARACTERS) return null;
    at += length + 1;
  }
};

const mapped = new Uint8Array(16);
const addressOf = (bytes: Uint8Array, at: number, type: number): string => {
  mapped.fill(0);
  if (type === TYPE_AAAA) mapped.set(bytes.subarray(at, at + 16));
  else {
    mapped.fill(0xff, 10, 12);
    mapped.set(bytes.subarray(at, at + 4), 12);
  }
  return addressText(mapped, 0);
};

export const readDnsMessage = (bytes: Uint8Array): DnsMessage | null => {
  if (bytes.byteLength < HEADER || u16(bytes, 4) !== 1) return null;
  const question = readName(bytes, HEADER);
  if (question === null || question.end + 4 > bytes.byteLength) return null;
  const { name } = question;
  const addresses: GivenAddress[] = [];
  /** the names that stand for the asked one, with the least time to live on the way */
  const chain = new Map([[name, Number.MAX_SAFE_INTEGER]]);
  let at = question.end + 4;
  for (let left = Math.min(MOST_RECORDS, u16(bytes, 6)); left > 0; left--) {
    const owner = readName(bytes, at);
    if (owner === null || owner.end + 10 > bytes.byteLength) break;
    const type = u16(bytes, owner.end);
    const size = u16(bytes, owner.end + 8);
    const data = owner.end + 10;
    if (data + size > bytes.byteLength) break;
    at = data + size;
    const soFar = chain.get(owner.name);
    if (soFar === undefined || u16(bytes, owner.end + 2) !== CLASS_IN) continue;
    const ttl = Math.min(soFar, u32(bytes, owner.end + 4));
    if (type === TYPE_CNAME) {
      const target = readName(bytes, data);
      if (target === null) break;
      chain.set(target.name, ttl);
    } else if ((type === TYPE_A && size === 4) || (type === TYPE_AAAA && size === 16))
      addresses.push({ address: addressOf(bytes, data, type), ttl });
  }
  return { name, type: u16(bytes, question.end), addresses };
};

const TYPES = new Map(
  Object.entries({
    A: 1,
    NS: 2,
    CNAME: 5,
    SOA: 6,
    PTR: 12,
    MX: 15,
    TXT: 16,
    AAAA: 28,
    SRV: 33,
    NAPTR: 35,
    DS: 43,
    DNSKEY: 48,
    SVCB: 64,
    HTTPS: 65,
    ALL: 255,
  }).map(([name, type]) => [type, `Type${name}`]),
);
/** As Coroot's metrics name it: "TypeA"; a type without a name is its number, 0 is "other". */
export const typeName = (type: number): string => TYPES.get(type) ?? (type === 0 ? "other" : String(type));

const CODES = ["ok", "format_error", "servfail", "nxdomain", "not_implemented", "refused"];
export const codeName = (code: number): string => CODES[code] ?? `code_${code}`;
