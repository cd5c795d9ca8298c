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

const opened = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    socket.once("connect", () => resolve(socket)).once("error", reject);
  });

/** `replyBytes` is the length of the whole reply, always the same: a reply is over when so many bytes have come. */
export const startLoad = async (port: number, perSecond: number, replyBytes: number): Promise<Load> => {
  const request = Buffer.from(`GET /item HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
  const sockets = await Promise.all(Array.from({ length: 32 }, () => opened(port)));
  const idle: Socket[] = [...sockets];
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
  for (const socket of sockets) {
    let have = 0;
    socket.on("data", (bytes) => {
      have += bytes.length;
      if (have < replyBytes) return;
      have = 0;
      answered += 1;
      idle.push(socket);
      send();
    });
    // a broken connection takes no further part; the count of answers tells
    socket.on("error", () => socket.destroy());
  }
  const timer = setInterval(send, STEP_MS);
  return {
    answered: () => answered,
    stop: () => {
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
