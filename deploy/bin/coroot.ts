#!/usr/bin/env node
/**
 * The one executable, `coroot`: arguments in, exit code out. Loads only the command that is asked for. The process ends
 * when the command has; what still holds the event loop then (an agent's socket closing) does not keep it. Stack traces
 * name the bundle's lines: reading the source maps takes 100 MB and stops the server for a moment when the first error is
 * printed. NODE_OPTIONS=--enable-source-maps has them read.
 */
import { commands } from "./cli/commands.ts";
import { main } from "./cli/main.ts";

process.exitCode = await main(commands, process.argv.slice(2), {
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
});
process.exit();
