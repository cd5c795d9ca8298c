/** The other end of the link for tests: a bare WebSocket client, and a link on a free port with a handler that records. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Context, Effect, Exit, Layer, Logger, Scope } from "effect";
import { WebSocket } from "ws";
import { AgentHandler } from "../../../runtime/ingest/AgentHandler.ts";
import { AgentLink, AgentLinkLive } from "../../../runtime/ingest/AgentLink.ts";
import {
  checkAck,
  checkCredit,
  checkGoaway,
  checkServerHello,
  decodeFrame,
  encodeFrame,
} from "../../../schemas/wire/codec.ts";
import { FRAME } from "../../../schemas/wire/frame.ts";
import type { FrameKind } from "../../../schemas/wire/frame.ts";
import type { AckBody, CreditBody, GoawayBody, HelloBody, ServerHelloBody } from "../../../schemas/wire/link.ts";
import { helloBody } from "../../schemas/frames.ts";

export const KEY = "the-key-of-this-test-server";

export interface LinkUnderTest {
  readonly url: string;
  readonly link: AgentLink;
  readonly close: () => Promise<void>;
}

export const startLink = async (handler: AgentHandler): Promise<LinkUnderTest> => {
  const scope = Effect.runSync(Scope.make());
  const layer = AgentLinkLive({ key: KEY, serverId: "server-1" }).pipe(
    Layer.provide(Layer.succeed(AgentHandler, handler)),
    Layer.provide(Logger.replace(Logger.defaultLogger, Logger.none)),
  );
  const context = await Effect.runPromise(Scope.extend(Layer.build(layer), scope));
  const link = Context.get(context, AgentLink);
  const http = createServer();
  http.on("upgrade", link.upgrade);
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  return {
    url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}/agent`,
    link,
    close: async () => {
      await Effect.runPromise(Scope.close(scope, Exit.void));
      http.close();
      http.closeAllConnections();
    },
  };
};

export const hello = (change: Partial<HelloBody> = {}): HelloBody => ({
  ...helloBody,
  key: KEY,
  monoMs: performance.now(),
  wallMs: Date.now(),
  ...change,
});

/** Waits for a state, not for a time. */
export const until = async (what: string, holds: () => boolean | Promise<boolean>, withinMs = 5000): Promise<void> => {
  const end = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

export class Agent {
  readonly socket: WebSocket;
  readonly hellos: ServerHelloBody[] = [];
  readonly acks: AckBody[] = [];
  readonly credits: CreditBody[] = [];
  readonly goaways: GoawayBody[] = [];
  closed = false;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.socket = new WebSocket(url, { perMessageDeflate: false, headers });
    this.socket.on("message", (data: Buffer) => {
      const { header, body } = decodeFrame(data);
      if (header.kind === FRAME.hello) this.hellos.push(checkServerHello(body));
      else if (header.kind === FRAME.ack) this.acks.push(checkAck(body));
      else if (header.kind === FRAME.credit) this.credits.push(checkCredit(body));
      else if (header.kind === FRAME.goaway) this.goaways.push(checkGoaway(body));
    });
    this.socket.on("close", () => (this.closed = true));
    this.socket.on("error", () => (this.closed = true));
  }

  async open(): Promise<this> {
    await once(this.socket, "open");
    return this;
  }
  send(kind: FrameKind, body: object): void {
    this.socket.send(encodeFrame(kind, body));
  }
  /** Connected and accepted. */
  static async join(url: string, change: Partial<HelloBody> = {}): Promise<Agent> {
    const agent = await new Agent(url).open();
    agent.send(FRAME.hello, hello(change));
    await until("the server's hello", () => agent.hellos.length > 0 && agent.credits.length > 0);
    return agent;
  }
  async leave(): Promise<void> {
    this.socket.close();
    await until("closed", () => this.closed);
  }
  async goaway(): Promise<GoawayBody> {
    await until("closed by the server", () => this.closed, 8000);
    const [first] = this.goaways;
    if (first === undefined) throw new Error("closed without a goaway");
    return first;
  }
}
