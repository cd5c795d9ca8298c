/** A way to a server on loopback that can be cut and mended. Listens on loopback; closing it ends its connections. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Proxy {
  readonly port: number;
  /** ends every connection and takes no new one */
  readonly cut: () => void;
  readonly mend: () => void;
  readonly close: () => void;
}

export const proxyTo = async (port: number): Promise<Proxy> => {
  const open = new Set<Socket>();
  let cut = false;
  const server = createServer((near) => {
    if (cut) return void near.destroy();
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(from);
      from.on("error", () => from.destroy());
      from.on("close", () => {
        open.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const hangUp = (): void => {
    for (const socket of open) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut: () => {
      cut = true;
      hangUp();
    },
    mend: () => {
      cut = false;
    },
    close: () => {
      hangUp();
      server.close();
    },
  };
};
