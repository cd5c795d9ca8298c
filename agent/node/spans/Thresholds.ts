/**
 * From the server's thresholds to the probe's edges: what takes longer on an edge becomes a span. Owned by the node agent;
 * gives the probe's commands, and remembers what it was told.
 */
import { serviceId } from "../../../schemas/service.ts";
import type { PolicyBody } from "../../../schemas/wire/link.ts";
import { ROLE } from "../../../schemas/wire/observe.ts";
import type { Instance } from "../observe/Instances.ts";
import type { ProbeEdge } from "../probe/ProbeTick.ts";

export interface PolicySource {
  readonly edge: ProbeEdge;
  /** the edge on the wire that it is part of, and whose it is; null where that is not known */
  readonly wire: { readonly id: number; readonly instance: number } | null;
}

export class Thresholds {
  /** microseconds by the probe's edge */
  private readonly told = new Map<number, number>();
  private readonly cluster: string;

  constructor(cluster: string) {
    this.cluster = cluster;
  }

  /** The probe began anew. */
  forget(): void {
    this.told.clear();
  }

  /** Commands for what has changed; empty where nothing has. */
  commands(
    policy: PolicyBody,
    sources: Iterable<PolicySource>,
    instance: (id: number) => Instance | undefined,
  ): string {
    const lines: string[] = [];
    const left = new Set(this.told.keys());
    for (const { edge, wire } of sources) {
      const us = Math.round(this.limitOf(policy, edge, wire, instance) * 1000);
      left.delete(edge.id);
      if ((this.told.get(edge.id) ?? 0) === us) continue;
      if (us > 0) this.told.set(edge.id, us);
      else this.told.delete(edge.id);
      lines.push(`slow ${edge.id} ${us}\n`);
    }
    // the probe forgets what it was told of an edge with the edge
    for (const id of left) this.told.delete(id);
    return lines.join("");
  }

  private limitOf(
    { slowMs, edges = {} }: PolicyBody,
    edge: ProbeEdge,
    wire: PolicySource["wire"],
    instance: (id: number) => Instance | undefined,
  ): number {
    if (wire === null) return 0;
    if (edge.role === ROLE.client) return edges[wire.id] ?? 0;
    const owner = instance(wire.instance);
    if (owner === undefined) return 0;
    const { identity, namespace, name } = owner;
    return slowMs[serviceId(this.cluster, namespace, identity.kind, name ?? identity.name)] ?? 0;
  }
}
