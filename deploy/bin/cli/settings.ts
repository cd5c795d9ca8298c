/**
 * Flags, environment and configuration file as one: a flag says the same as its variable and stands above it, and both
 * stand above the file. What is wrong is named with its field, as a usage error.
 */
import { Effect, Either } from "effect";
import { type Environment, loadConfig, type Settings } from "../../../runtime/config/Config.ts";
import { CommandError, EXIT, type Values } from "./command.ts";

/** The environment with the flags over it. */
export const overlaid = (environment: Environment, values: Values): Environment => {
  const flags = {
    COROOT_HOST: values.text("host"),
    COROOT_PORT: values.text("port"),
    COROOT_DATA: values.text("data"),
    COROOT_CLUSTER: values.text("cluster"),
  };
  return { ...environment, ...Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) };
};

export const readSettings = async (values: Values): Promise<Settings> => {
  const env = overlaid(process.env, values);
  const loaded = await Effect.runPromise(Effect.either(loadConfig({ path: values.text("config"), env })));
  if (Either.isRight(loaded)) return loaded.right;
  throw new CommandError(EXIT.usage, loaded.left.message, "");
};
