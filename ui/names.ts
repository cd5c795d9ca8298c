/** Names as the page writes them: parts of a service id, and ids and actor paths in the address bar. Pure. */
import type { ServiceId } from "../schemas/service.ts";

export interface ServiceParts {
  readonly cluster: string;
  readonly namespace: string;
  readonly kind: string;
  readonly name: string;
}

/** Parts of an id; an id of another form is shown whole as the name. */
export const partsOf = (id: ServiceId | string): ServiceParts => {
  const [cluster, namespace, kind, ...name] = id.split("/");
  if (!cluster || !namespace || !kind || name.length === 0) return { cluster: "", namespace: "", kind: "", name: id };
  return { cluster, namespace: namespace === "_" ? "" : namespace, kind, name: name.join("/") };
};

export const nameOf = (id: ServiceId | string): string => partsOf(id).name;

/** A splat in the address keeps its slashes, but not one at its start: that one is written "~/". */
export const toSplat = (path: string): string => (path.startsWith("/") ? `~${path}` : path);
export const fromSplat = (splat: string): string => (splat.startsWith("~/") ? splat.slice(1) : splat);

export const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
