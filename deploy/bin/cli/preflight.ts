/**
 * What must be free before a server starts: its port. A taken one ends the command with exit code 4 and says so; the
 * data folder is claimed, and its holder named, by the server itself.
 */
import { createServer } from "node:net";
import { CommandError, EXIT } from "./command.ts";

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** The port itself, or a free one when 0 is asked for. */
export const checkPort = (host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error) => {
      const code = codeOf(error);
      reject(
        code === "EADDRINUSE"
          ? new CommandError(
              EXIT.conflict,
              `port ${port} on ${host} is taken by another process`,
              "choose another with --port N",
            )
          : new CommandError(
              EXIT.failure,
              `cannot listen on ${host}:${port}: ${error.message}`,
              "see --host and --port",
            ),
      );
    });
    server.listen(port, host, () => {
      const address = server.address();
      const found = typeof address === "object" && address !== null ? address.port : port;
      server.close(() => resolve(found));
    });
  });
