/**
 * Which service a container of a stock agent belongs to, from its `container_id` and, for Pods, their owner: the same
 * namespace, kind and name as our own agents give. Pure.
 *
 * Forms (containers/container.go of coroot-node-agent): /k8s/NS/POD/CONTAINER, /k8s-cronjob/NS/JOB/CONTAINER,
 * /swarm/NS/SERVICE/TASK, /nomad/NS/JOB/GROUP/ALLOC/TASK, /docker/NAME, /SLICE/UNIT, /talos/NAME. Labels of compose are
 * not sent: such a container goes by its own name.
 */
import type { ServiceKind } from "../../schemas/wire/observe.ts";

export interface Owner {
  readonly kind: ServiceKind;
  readonly name: string;
}

export interface ContainerIdentity extends Owner {
  readonly namespace: string;
  /** what tells it apart from others of the service on its node */
  readonly instance: string;
}

/** Letters that Kubernetes makes random names of. */
const RANDOM = "[bcdfghjklmnpqrstvwxz2456789]{5}";
const OF_DEPLOYMENT = new RegExp(`^(.+)-[0-9a-f]{1,10}-${RANDOM}$`);
const OF_DAEMON_SET = new RegExp(`^(.+)-${RANDOM}$`);
const OF_STATEFUL_SET = /^(.+)-\d+$/;

/** Before the cluster agent has told: by the names that Kubernetes gives to Pods of each kind. */
export const ownerByName = (pod: string): Owner => {
  const deployment = OF_DEPLOYMENT.exec(pod)?.[1];
  if (deployment !== undefined) return { kind: "Deployment", name: deployment };
  const daemonSet = OF_DAEMON_SET.exec(pod)?.[1];
  if (daemonSet !== undefined) return { kind: "DaemonSet", name: daemonSet };
  const statefulSet = OF_STATEFUL_SET.exec(pod)?.[1];
  if (statefulSet !== undefined) return { kind: "StatefulSet", name: statefulSet };
  return { kind: "Pod", name: pod };
};

/** From `created_by_kind` and `created_by_name` of kube_pod_info; `jobOwner` is the CronJob of its Job, if any. */
export const ownerByKube = (pod: string, node: string, kind: string, name: string, jobOwner: string | null): Owner => {
  switch (kind) {
    case "ReplicaSet": {
      const deployment = /^(.+)-[0-9a-z]{1,10}$/.exec(name)?.[1];
      return deployment === undefined ? { kind: "ReplicaSet", name } : { kind: "Deployment", name: deployment };
    }
    case "Job": {
      const cron = jobOwner ?? /^(.+)-\d{8,10}$/.exec(name)?.[1];
      return cron === undefined ? { kind: "Job", name } : { kind: "CronJob", name: cron };
    }
    case "DaemonSet":
    case "StatefulSet":
      return { kind, name };
    case "Node":
      // a static Pod, named after its node
      return { kind: "Pod", name: pod.endsWith(`-${node}`) ? pod.slice(0, -node.length - 1) : pod };
    case "":
    case "<none>":
      return { kind: "Pod", name: pod };
    default:
      return ownerByName(pod);
  }
};

/** `NS/POD` of a container in Kubernetes, null for others. */
export const podOf = (containerId: string): string | null => {
  const [, form, namespace, pod] = containerId.split("/");
  return form === "k8s" && namespace && pod ? `${namespace}/${pod}` : null;
};

/** Null: a form that nobody knows. `owner` is that of its Pod, as the cluster agent told it, or null. */
export const identityOf = (containerId: string, node: string, owner: Owner | null): ContainerIdentity | null => {
  const [, form = "", a = "", b = "", c = "", d = "", e = ""] = containerId.split("/");
  if (a === "") return null;
  switch (form) {
    case "k8s":
      if (b === "" || c === "") return null;
      return { namespace: a, ...(owner ?? ownerByName(b)), instance: `${b}/${c}` };
    case "k8s-cronjob":
      return b === "" || c === "" ? null : { namespace: a, kind: "CronJob", name: b, instance: c };
    case "swarm": {
      if (b === "") return null;
      const stack = a !== "_";
      const name = stack ? `${a}_${b}` : b;
      return { namespace: stack ? a : node, kind: "Container", name, instance: `${name}.${c}` };
    }
    case "nomad":
      if (e === "") return null;
      return { namespace: a, kind: "Container", name: `${b}.${c}`, instance: `${d}/${e}` };
    case "docker":
      return { namespace: node, kind: "Container", name: a, instance: a };
    case "talos":
      return { namespace: node, kind: "SystemdUnit", name: a, instance: a };
    default: {
      if (!form.endsWith(".slice")) return null;
      // Units that were started from one template are told as the slice that they share.
      const unit = a.replace(/\.(service|slice)$/, "").replace(/^system-(?=.)/, a.endsWith(".slice") ? "" : "$&");
      const at = unit.indexOf("@");
      return { namespace: node, kind: "SystemdUnit", name: at > 0 ? unit.slice(0, at) : unit, instance: a };
    }
  }
};

/** Address and port of `1.2.3.4:80`, `[::1]:80` or `name:80`; null when it is none of these. */
export const addressOf = (text: string): { readonly address: string; readonly port: number } | null => {
  const at = text.lastIndexOf(":");
  const port = Number(text.slice(at + 1));
  if (at <= 0 || !Number.isInteger(port) || port < 1 || port > 65_535) return null;
  const address = text.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  return address === "" || address.length > 255 ? null : { address, port };
};
