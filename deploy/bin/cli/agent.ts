/** `coroot node-agent`: flags to the agent's options, its folder's lock, and its end with the process that started it. */
import { hostname } from "node:os";
import { join } from "node:path";
import { stopWithParent } from "./child.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { defaultData, lockData } from "./preflight.ts";

export const nodeAgent = async (values: Values, server: string): Promise<number> => {
  const key = values.text("key");
  const keyFile = values.text("key-file");
  if ((key === undefined) === (keyFile === undefined))
    throw new CommandError(
      EXIT.usage,
      "node-agent needs one of --key-file FILE and --key KEY",
      "see: coroot node-agent --help",
    );
  const data = values.text("data") ?? join(defaultData(), "agent");
  lockData(data, "agent");
  stopWithParent();
  const { runNodeAgent } = await import("../node-agent.ts");
  return runNodeAgent({
    server,
    data,
    node: values.text("node") ?? hostname(),
    cluster: values.text("cluster") ?? "default",
    ...(key === undefined ? {} : { key }),
    ...(keyFile === undefined ? {} : { keyFile }),
  });
};
