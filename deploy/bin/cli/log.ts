/**
 * How a process that a person started in a terminal logs: one short line per message, on stderr, warnings and worse
 * unless the configuration asks for more. Services keep Effect's own format with its timestamps. Nothing to stop.
 */
import { Cause, Effect, Logger, LogLevel } from "effect";

const words = (message: unknown): string =>
  (Array.isArray(message) ? message : [message])
    .map((part: unknown) =>
      part instanceof Error ? part.message : typeof part === "string" ? part : JSON.stringify(part),
    )
    .join(" ");

/** "info", the configuration's default, would tell a person at every start what the summary tells better. */
const least = {
  debug: LogLevel.Debug,
  info: LogLevel.Warning,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
} as const;

export const forTerminal =
  (level: keyof typeof least) =>
  <A, E, R>(program: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const plain = Logger.make(({ logLevel, message, cause }) => {
      if (LogLevel.lessThan(logLevel, least[level])) return;
      const why = Cause.isEmpty(cause) ? "" : `: ${Cause.pretty(cause)}`;
      process.stderr.write(`${logLevel._tag.toLowerCase()}: ${words(message)}${why}\n`);
    });
    return Effect.provide(program, Logger.replace(Logger.defaultLogger, plain));
  };
