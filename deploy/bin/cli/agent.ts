/**
 * `coroot node-agent`: configuration file, environment and flags as the agent's options, and its end with the process
 * that started it, if one supervises it.
 */
import { join } from "node:path";
import { stopWithParent } from "./child.ts";
import type { Values } from "./command.ts";
import { readSettings } from "./settings.ts";

export const nodeAgent = async (values: Values): Promise<number> => {
  const settings = await readSettings(values);
  const { agent } = settings;
  stopWithParent();
  const { runNodeAgent } = await import("../node-agent.ts");
  return runNodeAgent({
    server: values.text("server") ?? agent.server,
    keyFile: values.text("key-file") ?? agent.keyFile ?? join(settings.data, "agent.key"),
    data: values.text("data") ?? join(settings.data, "agent"),
    cluster: settings.cluster,
    spoolMaxBytes: agent.spoolMaxBytes,
    traffic: agent.traffic,
    ...((values.text("node") ?? agent.node) === undefined ? {} : { node: values.text("node") ?? agent.node }),
  });
};
