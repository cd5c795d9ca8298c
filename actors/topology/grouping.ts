/**
 * What the configuration says about services by glob: which ones are one (also across nodes), and of which category each
 * is. A glob is a service id, `cluster/namespace/Kind/name`, in which `*` stands for anything. Pure.
 */
import { parseServiceId, serviceId, type ServiceId } from "../../schemas/service.ts";
import type { ServiceKind } from "../../schemas/wire/observe.ts";

export interface CustomService {
  readonly name: string;
  readonly match: readonly string[];
}

export interface Grouping {
  readonly custom: readonly CustomService[];
  /** globs by category; what none matches is "application" */
  readonly categories: Readonly<Record<string, readonly string[]>>;
}

export const noGrouping: Grouping = { custom: [], categories: {} };

export const APPLICATION = "application";

/** What runs the machine or the cluster, and what watches it: not what users call. */
const BUILT_IN: Grouping["categories"] = {
  "control-plane": [
    "*/kube-system/*",
    "*/*/*/kubelet",
    "*/*/*/containerd",
    "*/*/*/dockerd",
    "*/*/*/docker",
    "*/*/*/k3s*",
    "*/*/*/etcd*",
    "*/*/*/kube-*",
    "*/*/*/coredns*",
    "*/*/*/calico*",
    "*/*/*/cilium*",
    "*/*/SystemdUnit/systemd-*",
    "*/*/SystemdUnit/dbus*",
    "*/*/SystemdUnit/ssh*",
  ],
  monitoring: [
    "*/monitoring/*",
    "*/coroot/*",
    "*/*/*/coroot*",
    "*/*/*/prometheus*",
    "*/*/*/grafana*",
    "*/*/*/alertmanager*",
    "*/*/*/node-exporter*",
    "*/*/*/node_exporter*",
    "*/*/*/otel*",
    "*/*/*/fluent*",
    "*/*/*/vector",
  ],
};

export const globs = (patterns: readonly string[]): RegExp[] =>
  patterns.map((pattern) => {
    const parts = pattern.split("*").map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`);
  });

export interface Grouped {
  /** the service that it belongs to, and of which kind that is */
  readonly of: (service: ServiceId, kind: ServiceKind) => { readonly service: ServiceId; readonly kind: ServiceKind };
  readonly category: (service: ServiceId) => string;
}

/** Rules are tried in the order of the configuration; answers are remembered, since ids never change. */
export const grouped = ({ custom, categories }: Grouping): Grouped => {
  const rules = custom.map(({ name, match }) => ({ name, match: globs(match) }));
  const kinds = [...Object.entries(categories), ...Object.entries(BUILT_IN)].map(
    ([category, patterns]) => [category, globs(patterns)] as const,
  );
  const names = new Map<ServiceId, string | null>();
  const found = new Map<ServiceId, string>();
  return {
    of: (service, kind) => {
      let name = names.get(service);
      if (name === undefined) {
        name = rules.find(({ match }) => match.some((glob) => glob.test(service)))?.name ?? null;
        names.set(service, name);
      }
      if (name === null) return { service, kind };
      return { service: serviceId(parseServiceId(service)?.cluster ?? "_", "custom", "Custom", name), kind: "Custom" };
    },
    category: (service) => {
      let category = found.get(service);
      if (category === undefined) {
        category = kinds.find(([, all]) => all.some((glob) => glob.test(service)))?.[0] ?? APPLICATION;
        found.set(service, category);
      }
      return category;
    },
  };
};
