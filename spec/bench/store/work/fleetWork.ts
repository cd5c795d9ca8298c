/**
 * A fleet of agents in a process of its own: `fleetWork.ts OPTIONS` (FleetOptions as JSON). Each line on standard input is
 * a command (begin, pause, status), each answered by one line of JSON, the fleet's status. Ends with its input.
 */
import { createInterface } from "node:readline";
import { Fleet, type FleetOptions } from "../../../cluster/Fleet.ts";

const fleet = new Fleet(JSON.parse(process.argv[2] ?? "") as FleetOptions);
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  if (line === "begin") fleet.begin();
  else if (line === "pause") fleet.pause();
  process.stdout.write(`${JSON.stringify(fleet.status())}\n`);
});
lines.on("close", () => {
  fleet.close();
  setTimeout(() => process.exit(0), 200);
});
