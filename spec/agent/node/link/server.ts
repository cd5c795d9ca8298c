/**
 * A small server of the agent link for specs: a real WebSocket server whose test says what it grants and answers. Started
 * and stopped by the spec; every received frame is checked with the wire's own checks.
 */
import { once } from "node:events";
import { WebSocketServer, type RawData, type WebSocket } from "ws";
import {
  checkHello,
  checkObserve,
  checkStore,
  decodeFrame,
  encodeFrame,
  type DecodedObserve,
  type DecodedStore,
} from "../../../../schemas/wire/codec.ts";
import { FRAME, type FrameKind } from "../../../../schemas/wire/frame.ts";
import type { GoawayBody, HelloBody, Lane, ServerHelloBody } from "../../../../schemas/wire/link.ts";

export interface LinkServer {
  readonly url: string;
  readonly hellos: HelloBody[];
  /** windows per connection, in order of arrival */
  readonly connections: DecodedObserve[][];
  readonly stores: DecodedStore[];
  /** what is granted after the greeting, and whether frames are acknowledged */
  readonly behaviour: {
    observe: number;
    store: number;
    ack: boolean;
    goaway: GoawayBody | null;
    have: ServerHelloBody["have"];
  };
  readonly send: (kind: FrameKind, body: object) => void;
  readonly credit: (lane: Lane, frames: number) => void;
  readonly drop: () => void;
  readonly stop: () => Promise<void>;
}

const bytesOf = (data: RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data;

export const startLinkServer = async (port = 0): Promise<LinkServer> => {
  const server = new WebSocketServer({ host: "127.0.0.1", port });
  await once(server, "listening");
  const address = server.address();
  const bound = typeof address === "object" && address !== null ? address.port : 0;
  let socket: WebSocket | null = null;
  const send = (kind: FrameKind, body: object): void => socket?.send(encodeFrame(kind, body));
  const credit = (lane: Lane, frames: number): void => send(FRAME.credit, { lane, frames });
  const made: LinkServer = {
    url: `ws://127.0.0.1:${bound}/agent`,
    hellos: [],
    connections: [],
    stores: [],
    behaviour: { observe: 60, store: 4, ack: true, goaway: null, have: undefined },
    send,
    credit,
    drop: () => socket?.terminate(),
    stop: async () => {
      for (const client of server.clients) client.terminate();
      server.close();
      await once(server, "close");
    },
  };
  const ack = (lane: Lane, upTo: number, echoMonoMs: number, of: number): void => {
    if (made.behaviour.ack) send(FRAME.ack, { lane, epoch: of, upTo, echoMonoMs, serverMs: Date.now() });
  };
  server.on("connection", (opened) => {
    socket = opened;
    const windows: DecodedObserve[] = [];
    made.connections.push(windows);
    let epoch = 0;
    opened.on("message", (data) => {
      const { header, body } = decodeFrame(bytesOf(data));
      if (header.kind === FRAME.hello) {
        const hello = checkHello(body);
        made.hellos.push(hello);
        epoch = hello.epoch;
        if (made.behaviour.goaway !== null) {
          send(FRAME.goaway, made.behaviour.goaway);
          opened.close(1008);
          return;
        }
        const { have } = made.behaviour;
        const greeting = { protocol: [1, 0], serverId: "spec", serverMs: Date.now() };
        send(FRAME.hello, have === undefined ? greeting : { ...greeting, have });
        credit("observe", made.behaviour.observe);
        credit("store", made.behaviour.store);
      } else if (header.kind === FRAME.observe) {
        const window = checkObserve(body);
        windows.push(window);
        ack("observe", window.window, window.monoMs, epoch);
      } else if (header.kind === FRAME.store) {
        const store = checkStore(body);
        made.stores.push(store);
        ack("store", store.sequence, store.monoMs, store.epoch);
      }
    });
  });
  return made;
};

/** Waits for a state, checked often; fails with what was waited for. */
export const until = async (what: string, done: () => boolean, withinMs = 5_000): Promise<void> => {
  const end = Date.now() + withinMs;
  while (!done()) {
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
