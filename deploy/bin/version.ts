/** The version of this build, from package.json: told by the command line, the server and the agents. */
import { version as packageVersion } from "../../package.json" with { type: "json" };

export const version: string = packageVersion;
