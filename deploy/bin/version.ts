/** The version of this build, from package.json: told by the command line, the server and the agents. */
import manifest from "../../package.json" with { type: "json" };

export const version: string = manifest.version;
