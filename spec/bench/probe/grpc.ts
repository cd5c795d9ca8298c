/** Unary gRPC calls between grpc-js's client and server, a third of them with a status of their own. */
import { Client, credentials, Metadata, Server, ServerCredentials, type ServiceDefinition } from "@grpc/grpc-js";

const same = (bytes: Buffer): Buffer => bytes;
const ECHO = {
  unary: {
    path: "/bench.Echo/Unary",
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  },
} satisfies ServiceDefinition;

const WIDTH = 50;
/** Codes that count as failed; the others but 0 count as rejected. */
const FAILED = new Set([2, 4, 12, 13, 14, 15]);

/** Makes `n` calls; their number by outcome. */
export const grpcCalls = async (
  n: number,
): Promise<{ readonly port: number; readonly made: Readonly<Record<"ok" | "rejected" | "failed", number>> }> => {
  const server = new Server();
  server.addService(ECHO, {
    unary: (call: { request: Buffer }, reply: (error: object | null, value?: Buffer) => void) => {
      const code = call.request[0] ?? 0;
      if (code === 0) reply(null, call.request);
      else reply({ code, details: `no ${code}` });
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, at) =>
      error === null ? resolve(at) : reject(error),
    ),
  );
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const made = { ok: 0, rejected: 0, failed: 0 };
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < n) {
      const i = next++;
      const code = i % 3 === 0 ? i % 17 : 0;
      made[code === 0 ? "ok" : FAILED.has(code) ? "failed" : "rejected"]++;
      await new Promise<void>((resolve) =>
        client.makeUnaryRequest(ECHO.unary.path, same, same, Buffer.of(code), new Metadata(), {}, () => resolve()),
      );
    }
  };
  try {
    await Promise.all(Array.from({ length: WIDTH }, loop));
    return { port, made };
  } finally {
    client.close();
    server.forceShutdown();
  }
};
