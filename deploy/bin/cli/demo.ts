/** `coroot demo`: flags to the demo's arguments; a wrong one is a usage error with the demo's own sentence. */
import { BadDemoArgument, demoMode, type DemoArgs } from "../../demo/args.ts";
import { CommandError, EXIT, type Values } from "./command.ts";

const defined = <T extends object>(fields: T): { readonly [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    readonly [K in keyof T]: Exclude<T[K], undefined>;
  };

export const demoArgs = (values: Values): DemoArgs => {
  const faults = values.text("faults");
  return {
    check: values.on("check"),
    shuffle: values.on("shuffle"),
    json: values.on("json"),
    ...defined({
      fault: values.text("fault"),
      faults: faults?.split(",").map((name) => name.trim()),
      warmupSeconds: values.number("warmup"),
      seconds: values.number("seconds"),
      quietSeconds: values.number("quiet"),
      server: values.text("server"),
    }),
  };
};

export const demo = async (values: Values): Promise<number> => {
  const args = demoArgs(values);
  try {
    demoMode(args);
  } catch (error) {
    if (error instanceof BadDemoArgument) throw new CommandError(EXIT.usage, error.message, "see: coroot demo --help");
    throw error;
  }
  const { runDemo } = await import("../../demo/main.ts");
  return runDemo(args);
};
