/**
 * An agent that speaks the real protocol and reports the shop of spec/actors/shop.ts, one window a second, until it is
 * closed. It reconnects by itself, like the real one, and starts its dictionary anew.
 */
import { hostname } from "node:os";
import { WebSocket } from "ws";
import { encodeFrame } from "../../schemas/wire/codec.ts";
import { encodeTable } from "../../schemas/wire/columns.ts";
import { FRAME, PROTOCOL } from "../../schemas/wire/frame.ts";
import type { HelloBody } from "../../schemas/wire/link.ts";
import {
  HIST_SHAPE,
  L7_SHAPE,
  PENDING_SHAPE,
  TCP_SHAPE,
  TROUBLE_SHAPE,
  USAGE_SHAPE,
  type ObserveBody,
} from "../../schemas/wire/observe.ts";
import { windowAt, type Scenario } from "../actors/shop.ts";

export class ShopAgent {
  readonly #url: string;
  readonly #key: string;
  readonly #startedAt = performance.now();
  readonly #epoch = Math.floor(Math.random() * 2 ** 40);
  readonly #timer: NodeJS.Timeout;
  #socket: WebSocket | null = null;
  #first = true;
  #window = 0;
  /** what the shop goes through; the argument is the window's number */
  scenario: Scenario;

  constructor(url: string, key: string, scenario: Scenario) {
    this.#url = url;
    this.#key = key;
    this.scenario = scenario;
    this.#connect();
    this.#timer = setInterval(() => this.#send(), 1_000);
  }

  #connect(): void {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#first = true;
    const hello: HelloBody = {
      protocol: [PROTOCOL.major, PROTOCOL.minor],
      agentId: "shop-agent",
      epoch: this.#epoch,
      cluster: "default",
      node: hostname(),
      key: this.#key,
      version: "0",
      monoMs: performance.now() - this.#startedAt,
      wallMs: Date.now(),
      kernel: "6.18",
      capabilities: [],
    };
    socket.on("open", () => socket.send(encodeFrame(FRAME.hello, hello)));
    // a server that is away is tried again with the next window
    socket.on("error", () => socket.terminate());
    socket.on("close", () => {
      if (this.#socket === socket) this.#socket = null;
    });
  }

  #send(): void {
    this.#window++;
    const socket = this.#socket;
    if (socket === null) return this.#connect();
    if (socket.readyState !== WebSocket.OPEN) return;
    const {
      pairs: _pairs,
      pairIps: _ips,
      skipped: _skipped,
      serverMs: _serverMs,
      goneEdges: _goneEdges,
      self: _self,
      ...body
    } = windowAt(this.#window, this.scenario, Math.random, this.#first);
    const frame: ObserveBody = {
      ...body,
      listens: body.listens ?? [],
      monoMs: performance.now() - this.#startedAt,
      wallMs: Date.now(),
      tcp: encodeTable(TCP_SHAPE, body.tcp),
      troubles: encodeTable(TROUBLE_SHAPE, body.troubles),
      l7: encodeTable(L7_SHAPE, body.l7),
      hist: encodeTable(HIST_SHAPE, body.hist),
      pending: encodeTable(PENDING_SHAPE, body.pending),
      usage: encodeTable(USAGE_SHAPE, body.usage),
    };
    const { listens, ...unchanged } = frame;
    socket.send(encodeFrame(FRAME.observe, this.#first ? { ...unchanged, listens } : unchanged));
    this.#first = false;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket?.terminate();
  }
}
