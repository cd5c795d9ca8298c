#!/usr/bin/env node
/**
 * The one executable, `coroot`: arguments in, exit code out. Loads only the command that is asked for. The process ends
 * when the command has; what still holds the event loop then (an agent's socket closing) does not keep it.
 */
import { commands } from "./cli/commands.ts";
import { main } from "./cli/main.ts";

process.setSourceMapsEnabled(true);
process.exitCode = await main(commands, process.argv.slice(2), {
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
});
process.exit();
