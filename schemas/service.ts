/** Identity of what we watch. */
declare const brand: unique symbol;

/** `cluster/namespace/Kind/name`; never changes for the life of a service. */
export type ServiceId = string & { readonly [brand]: "ServiceId" };

const part = (text: string): string => (text === "" ? "_" : text.replaceAll("/", "~"));

export const serviceId = (cluster: string, namespace: string, kind: string, name: string): ServiceId =>
  `${part(cluster)}/${part(namespace)}/${part(kind)}/${part(name)}` as ServiceId;

/** The four parts, or null when the text is no service id. */
export const parseServiceId = (
  text: string,
): { readonly cluster: string; readonly namespace: string; readonly kind: string; readonly name: string } | null => {
  const [cluster, namespace, kind, name, ...rest] = text.split("/");
  if (!cluster || !namespace || !kind || !name || rest.length > 0) return null;
  return { cluster, namespace, kind, name };
};

export const serviceName = (id: ServiceId): string => id.slice(id.lastIndexOf("/") + 1);

/** Statuses in rising order of concern. */
export type HealthStatus = "unknown" | "ok" | "info" | "warning" | "critical";
