/**
 * Who the other end of an edge is, from what is known now about the moment at which the edge was last seen. In this order:
 *
 * a client's edge: where its packets went (NAT) → who listened there then → both ends of one connection seen → who listened
 * there until less than ten minutes before → the backends of a virtual address, when they are one service → the only
 * service at that address → something outside, by name. A server's edge: both ends → the only service at the address.
 *
 * Something outside is named by what the client asked for: Host header or server name (SNI) of its requests, the DNS name
 * that its node looked up, else the address; always with the port. So one name over many addresses is one service, and
 * one address with many names is several.
 */
import { serviceId, type ServiceId } from "../../schemas/service.ts";
import { isLoopback } from "../../schemas/wire/address.ts";
import { ROLE } from "../../schemas/wire/observe.ts";
import type { Leases } from "./Leases.ts";
import type { Names } from "./Names.ts";
import type { OpenEdge } from "./messages.ts";

export interface EdgeRecord extends OpenEdge {
  readonly agent: string;
  readonly node: string;
  readonly cluster: string;
  /** from when on whoever is at its other end must have been told of */
  readonly since: number;
  /** server time of the last evidence that it is in use */
  seen: number;
  peerService: ServiceId | null;
  told: boolean;
  /** other ends of its connections, as far as they were seen */
  readonly paired: Set<ServiceId>;
}

export interface Known {
  readonly leases: Leases;
  readonly names: Names;
}

export const scopeOf = (node: string, netns: number, address: string): string =>
  isLoopback(address) ? `${node}#${netns}|${address}` : address;

export const dialled = (edge: Pick<EdgeRecord, "node" | "netns" | "peer" | "port">): string =>
  `${scopeOf(edge.node, edge.netns, edge.peer)}|${edge.port}`;

/** Address and port where its packets went. */
const target = ({ names }: Known, edge: EdgeRecord): { readonly key: string; readonly address: string } => {
  const actual = names.nat.get(`${edge.node}|${edge.peer}:${edge.port}`);
  if (actual === null) return { key: dialled(edge), address: edge.peer };
  const end = actual.lastIndexOf(":");
  const address = actual.slice(0, end);
  return { key: `${scopeOf(edge.node, edge.netns, address)}|${actual.slice(end + 1)}`, address };
};

const only = (services: ReadonlySet<ServiceId>): ServiceId | null => {
  if (services.size !== 1) return null;
  const [service] = services;
  return service ?? null;
};

/** Undefined: nobody is known there; null: it is one of several. */
export const peerOf = (known: Known, edge: EdgeRecord): ServiceId | null | undefined =>
  edge.role === ROLE.server ? caller(known, edge) : callee(known, edge);

const caller = ({ leases }: Known, edge: EdgeRecord): ServiceId | null | undefined => {
  const paired = only(edge.paired);
  if (paired !== null) return paired;
  if (isLoopback(edge.peer) || edge.paired.size > 1) return null;
  const owners = leases.at(edge.peer, edge.seen);
  return owners.size === 0 ? undefined : only(owners);
};

const callee = (known: Known, edge: EdgeRecord): ServiceId | undefined => {
  const { leases, names } = known;
  const { key, address } = target(known, edge);
  const holder = leases.holder(key, edge.seen);
  if (holder !== null) return holder;
  const paired = only(edge.paired);
  if (paired !== null) return paired;
  const former = leases.former(key, edge.seen);
  if (former !== null) return former;
  const vip = names.vips.get(`${edge.peer}:${edge.port}`);
  if (vip !== null) {
    const behind = new Set(vip.backends.flatMap((one) => leases.holder(`${one.address}|${one.port}`, edge.seen) ?? []));
    return only(behind) ?? serviceId(edge.cluster, "external", "External", vip.name);
  }
  const alone = isLoopback(address) ? null : only(leases.at(address, edge.seen));
  return alone !== null && alone !== edge.service ? alone : undefined;
};

export const externalOf = ({ names }: Known, edge: EdgeRecord): ServiceId => {
  const id = (name: string): ServiceId => serviceId(edge.cluster, "external", "External", name);
  if (edge.role === ROLE.server) return id("clients");
  if (isLoopback(edge.peer)) return id(`localhost:${edge.port}`);
  return id(`${edge.host ?? names.nameOf(edge.node, edge.peer) ?? edge.peer}:${edge.port}`);
};
