/**
 * What a subcommand is: its flags, help text and lazily loaded run. Parsing and help are pure; they know no command.
 * A usage mistake is a CommandError with exit code 2 and one hint; commands throw the same error with their own code.
 * Holds nothing to stop.
 */
import { parseArgs } from "node:util";

/** Exit codes of every subcommand. */
export const EXIT = { ok: 0, failure: 1, usage: 2, capability: 3, conflict: 4 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_HELP = `Exit codes:
  0  ended as asked
  1  failed
  2  wrong usage
  3  this machine lacks something that the command needs
  4  the port or the data folder is taken by another process`;

/** A failure that a person reads: one line, and where to go from here. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exitCode: ExitCode;
  readonly hint: string;
  constructor(exitCode: ExitCode, message: string, hint: string) {
    super(message);
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

export interface Flag {
  readonly kind: "text" | "number" | "switch";
  /** placeholder of the value in help; empty for a switch */
  readonly value: string;
  readonly help: string;
}

export interface Values {
  readonly text: (name: string) => string | undefined;
  readonly number: (name: string) => number | undefined;
  readonly on: (name: string) => boolean;
  /** arguments that are no flags */
  readonly operands: readonly string[];
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  readonly flags: Readonly<Record<string, Flag>>;
  /** what it takes beside flags, as help shows it; left out: nothing */
  readonly operands?: string;
  /** further lines of help */
  readonly about?: readonly string[];
  readonly examples: readonly string[];
  /** left out of the list of commands */
  readonly internal?: boolean;
  /** takes its arguments as they are and answers --help by itself */
  readonly ownArguments?: boolean;
  readonly run: (values: Values, args: readonly string[]) => Promise<number>;
}

const distance = (a: string, b: string): number => {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, replace));
    }
    row = next;
  }
  return row[b.length] ?? 0;
};

/** The name that was probably meant, or null when none is near. */
export const nearest = (word: string, names: readonly string[]): string | null => {
  const ranked = names
    .map((name) => ({ name, off: name.startsWith(word) && word.length > 1 ? 0 : distance(word, name) }))
    .sort((a, b) => a.off - b.off);
  const best = ranked[0];
  return best !== undefined && best.off <= Math.ceil(best.name.length / 3) ? best.name : null;
};

const usageError = (command: string, message: string, hint?: string): CommandError =>
  new CommandError(EXIT.usage, message, hint ?? `see: coroot ${command} --help`);

const toNumber = (command: string, name: string, text: string): number => {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < 0)
    throw usageError(command, `--${name} takes a whole number, not "${text}"`);
  if (name === "port" && value > 65_535)
    throw usageError(command, `--port takes a number from 0 to 65535, not ${text}`);
  return value;
};

/** Reads the arguments of one command; `help` when they ask for it. Throws a CommandError that names the argument. */
export const readArguments = (command: Command, args: readonly string[]): Values | "help" => {
  if (args.includes("--help") || args.includes("-h")) return "help";
  const options = Object.fromEntries(
    Object.entries(command.flags).map(([name, flag]) => [
      name,
      { type: flag.kind === "switch" ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const given = new Map<string, string | true>();
  const operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      if (command.operands === undefined)
        throw usageError(command.name, `${command.name} takes no argument "${token.value}"`);
      operands.push(token.value);
      continue;
    }
    const flag = command.flags[token.name];
    if (flag === undefined) {
      const meant = nearest(token.name, Object.keys(command.flags));
      throw usageError(
        command.name,
        `${command.name} has no flag ${token.rawName}`,
        meant === null ? undefined : `did you mean --${meant}?`,
      );
    }
    if (flag.kind === "switch") {
      if (token.value !== undefined) throw usageError(command.name, `--${token.name} takes no value`);
      given.set(token.name, true);
    } else {
      if (token.value === undefined || (token.inlineValue === false && token.value.startsWith("--")))
        throw usageError(command.name, `--${token.name} needs a value: --${token.name} ${flag.value}`);
      given.set(token.name, token.value);
      if (flag.kind === "number") toNumber(command.name, token.name, token.value);
    }
  }
  return {
    text: (name) => {
      const value = given.get(name);
      return typeof value === "string" ? value : undefined;
    },
    number: (name) => {
      const value = given.get(name);
      return typeof value === "string" ? toNumber(command.name, name, value) : undefined;
    },
    on: (name) => given.get(name) === true,
    operands,
  };
};

const aligned = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(0, ...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
};

export const commandHelp = (command: Command): string => {
  const flags = Object.entries(command.flags).map(
    ([name, flag]) => [flag.value === "" ? `--${name}` : `--${name} ${flag.value}`, flag.help] as const,
  );
  return [
    `${command.summary}\n`,
    `Usage: coroot ${command.name}${command.operands === undefined ? "" : ` ${command.operands}`}${flags.length > 0 ? " [flags]" : ""}\n`,
    ...(command.about === undefined ? [] : [`${command.about.map((line) => `  ${line}`).join("\n")}\n`]),
    `Flags:\n${aligned([...flags, ["--help", "this text"]])}\n`,
    `Examples:\n${command.examples.map((line) => `  ${line}`).join("\n")}\n`,
    EXIT_HELP,
  ].join("\n");
};

export const overview = (commands: readonly Command[]): string =>
  [
    "Watches every service of a machine or cluster, decides what is wrong and names the cause.\n",
    "Usage: coroot <command> [flags]\n",
    `Commands:\n${aligned(commands.filter((one) => one.internal !== true).map((one) => [one.name, one.summary]))}\n`,
    "Each command explains itself: coroot <command> --help\n",
    EXIT_HELP,
  ].join("\n");
