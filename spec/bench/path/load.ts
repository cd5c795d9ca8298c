/**
 * A paced HTTP load on loopback: keep-alive connections, one request under way on each, so many requests per second as
 * asked for, sent in steps of ten milliseconds. Raw sockets, so that the load costs less than what it drives. A step
 * that finds no idle connection sends as soon as an answer frees one; what was really answered is what counts.
 */
import { connect, type Socket } from "node:net";

const STEP_MS = 10;

export interface Load {
  readonly answered: () => number;
  readonly stop: () => void;
}

const opened = (port: number, host = "127.0.0.1"): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host, noDelay: true });
    socket.once("connect", () => resolve(socket)).once("error", reject);
  });

export interface LoadOptions {
  /** addresses that the connections go to, by turns */
  readonly hosts?: readonly string[];
  /** how many there are */
  readonly connections?: number;
  /** requests after which a connection is closed and another opened; left out: never */
  readonly each?: number;
}

/** `replyBytes` is the length of the whole reply, always the same: a reply is over when so many bytes have come. */
export const startLoad = async (
  port: number,
  perSecond: number,
  replyBytes: number,
  { hosts = ["127.0.0.1"], connections = 32, each = Number.POSITIVE_INFINITY }: LoadOptions = {},
): Promise<Load> => {
  const request = Buffer.from(`GET /item HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  const hostOf = (i: number): string => hosts[i % hosts.length] ?? "127.0.0.1";
  const sockets = new Set(await Promise.all(Array.from({ length: connections }, (_, i) => opened(port, hostOf(i)))));
  const idle: Socket[] = [...sockets];
  let stopped = false;
  const startedAt = performance.now();
  let answered = 0;
  let sent = 0;
  const send = (): void => {
    const due = ((performance.now() - startedAt) / 1000) * perSecond;
    while (sent + 1 <= due) {
      const socket = idle.shift();
      if (socket === undefined) return;
      socket.write(request);
      sent += 1;
    }
  };
  const replace = async (socket: Socket): Promise<void> => {
    const host = socket.remoteAddress ?? "127.0.0.1";
    socket.destroy();
    sockets.delete(socket);
    const next = await opened(port, host);
    if (stopped) return void next.destroy();
    sockets.add(next);
    follow(next);
    idle.push(next);
    send();
  };
  const follow = (socket: Socket): void => {
    let have = 0;
    let done = 0;
    socket.on("data", (bytes) => {
      have += bytes.length;
      if (have < replyBytes) return;
      have = 0;
      answered += 1;
      done += 1;
      if (done >= each) {
        // a connection that cannot be replaced takes no further part, as one that breaks
        replace(socket).catch(() => undefined);
        return;
      }
      idle.push(socket);
      send();
    });
    // a broken connection takes no further part; the count of answers tells
    socket.on("error", () => socket.destroy());
  };
  for (const socket of sockets) follow(socket);
  const timer = setInterval(send, STEP_MS);
  return {
    answered: () => answered,
    stop: () => {
      stopped = true;
      clearInterval(timer);
      for (const socket of sockets) socket.destroy();
    },
  };
};

/** Length of the reply to the load's request. */
export const replyLength = async (port: number): Promise<number> => {
  const socket = await opened(port);
  return new Promise((resolve, reject) => {
    let length = 0;
    socket.on("data", (bytes) => (length += bytes.length)).on("error", reject);
    socket.on("close", () => resolve(length));
    socket.write(`GET /item HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    setTimeout(() => socket.destroy(), 300);
  });
};
