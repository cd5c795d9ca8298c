/**
 * From arguments to an exit code: finds the command, reads its flags, runs it, and turns what goes wrong into one clear
 * line on stderr with a hint. Owned by the entry file; the streams are parameters so that specs can read them.
 */
import { type Command, CommandError, commandHelp, EXIT, nearest, overview, readArguments } from "./command.ts";

export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

const find = (commands: readonly Command[], name: string): Command => {
  const found = commands.find((command) => command.name === name);
  if (found !== undefined) return found;
  const meant = nearest(
    name,
    commands.filter((command) => command.internal !== true).map((command) => command.name),
  );
  throw new CommandError(
    EXIT.usage,
    name.startsWith("-") ? `the first argument is a command, not ${name}` : `there is no command "${name}"`,
    meant === null ? "see: coroot --help" : `did you mean: coroot ${meant}?`,
  );
};

const dispatch = async (commands: readonly Command[], args: readonly string[], output: Output): Promise<number> => {
  const [first, ...rest] = args;
  if (first === undefined) {
    output.err(overview(commands));
    return EXIT.usage;
  }
  if (first === "--help" || first === "-h" || first === "help") {
    output.out(rest[0] === undefined ? overview(commands) : commandHelp(find(commands, rest[0])));
    return EXIT.ok;
  }
  const command = find(commands, first === "--version" || first === "-v" ? "version" : first);
  const values = readArguments(command, command.ownArguments === true ? [] : rest);
  if (values === "help") {
    output.out(commandHelp(command));
    return EXIT.ok;
  }
  return await command.run(values, rest);
};

export const main = async (commands: readonly Command[], args: readonly string[], output: Output): Promise<number> => {
  try {
    return await dispatch(commands, args, output);
  } catch (error) {
    if (error instanceof CommandError) {
      output.err(`coroot: ${error.message}`);
      if (error.hint !== "") output.err(`hint: ${error.hint}`);
      return error.exitCode;
    }
    output.err(`coroot: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return EXIT.failure;
  }
};
