/**
 * The agent link's edge: one WebSocket at a time, driven by the pure step in step.ts. Owned by the node agent's scope.
 * Handlers only turn what the socket says into inputs; outputs are carried out at once. A failure of the socket is an
 * input like any other and leads to a later dial. Closing the scope gives unsent windows two seconds, then hangs up.
 */
import { Duration, Effect, Runtime, type Scope } from "effect";
import { WebSocket, type RawData } from "ws";
import {
  checkAck,
  checkCredit,
  checkGoaway,
  checkPolicy,
  checkServerHello,
  checkStore,
  decodeFrame,
  encodeFrame,
} from "../../../schemas/wire/codec.ts";
import { FRAME, FrameError, MAX_FRAME_BYTES } from "../../../schemas/wire/frame.ts";
import type { HelloBody, PolicyBody, SeriesDefinition, StoreBody } from "../../../schemas/wire/link.ts";
import { Dictionary, type Catalog, type Window } from "../observe/Window.ts";
import type { Spool, SpoolEntry } from "../spool/Spool.ts";
import { initialLink, stepLink, type LinkInput, type LinkOutput, type LinkState } from "./step.ts";

export interface LinkOptions {
  /** servers of one deployment: any of them will do */
  readonly urls: readonly string[];
  readonly epoch: number;
  readonly catalog: Catalog;
  readonly spool: Spool;
  /** made anew for each greeting; may fail while the key file is not there yet */
  readonly hello: Effect.Effect<HelloBody, { readonly message: string }>;
  /** monotonic ms since the agent's start */
  readonly monoMs: () => number;
}

export interface Link {
  readonly offer: (window: Window) => void;
  /** a record was added to the spool */
  readonly storeReady: () => void;
  /** capabilities changed */
  readonly refresh: () => void;
  readonly state: () => LinkState<Window>;
  /** thresholds that the server pushed last */
  readonly policy: () => PolicyBody;
}

const HANDSHAKE_MS = 5_000;
const FLUSH = Duration.seconds(2);
const TICK = Duration.millis(250);
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;

const bytesOf = (data: RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data;

/** A store frame for a connection that missed the beginning of its segment: it brings the definitions along. */
export const withDefinitions = (entry: SpoolEntry): Uint8Array => {
  if (entry.before.length === 0) return entry.bytes;
  const definitions = new Map<number, SeriesDefinition>();
  for (const bytes of [...entry.before, entry.bytes])
    for (const one of checkStore(decodeFrame(bytes).body).series) definitions.set(one.id, one);
  const body = decodeFrame(entry.bytes).body as StoreBody;
  return encodeFrame(FRAME.store, { ...body, series: [...definitions.values()] });
};

export const makeLink = (options: LinkOptions): Effect.Effect<Link, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { spool, monoMs } = options;
    const runtime = yield* Effect.runtime<never>();
    const random = yield* Effect.random;
    let state = initialLink<Window>(options.epoch, options.urls.length);
    let socket: WebSocket | null = null;
    let dictionary = new Dictionary(options.catalog);
    let policy: PolicyBody = { slowMs: {} };
    const pending: LinkInput<Window>[] = [];
    let stepping = false;

    const log = (level: "info" | "warning", text: string): void => {
      const line = level === "info" ? Effect.logInfo(text) : Effect.logWarning(text);
      Runtime.runFork(runtime)(line);
    };
    const chance = (): number => Effect.runSync(random.next);

    /** Outputs may bring inputs (a close that fails at once), so inputs queue while a step is carried out. */
    const feed = (input: LinkInput<Window>): void => {
      pending.push(input);
      if (stepping) return;
      stepping = true;
      try {
        for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
          const [after, outputs] = stepLink(state, next, monoMs());
          state = after;
          for (const output of outputs) perform(output);
        }
      } finally {
        stepping = false;
      }
    };

    const send = (bytes: Uint8Array): void => {
      if (socket === null || socket.readyState !== WebSocket.OPEN) return;
      if (socket.bufferedAmount > MAX_UNSENT_BYTES) return hangUp("the server does not read what it granted");
      socket.send(bytes);
    };

    /** Ends the connection; the step hears of it once. */
    const hangUp = (reason: string): void => {
      const ending = socket;
      if (ending === null) return;
      socket = null;
      // The handshake may still be under way, and then closing is an error that nobody needs.
      if (ending.readyState === WebSocket.OPEN) ending.close(1000);
      else ending.terminate();
      feed({ type: "closed", reason, random: chance() });
    };

    const greet = (on: WebSocket): void => {
      Runtime.runCallback(runtime)(Effect.either(options.hello), {
        onExit: (exit) => {
          if (socket !== on || exit._tag === "Failure") return;
          if (exit.value._tag === "Left") return hangUp(exit.value.left.message);
          send(encodeFrame(FRAME.hello, exit.value.right));
        },
      });
    };

    const dial = (server: number): void => {
      const url = options.urls[server] ?? "";
      dictionary = new Dictionary(options.catalog);
      let opening: WebSocket;
      try {
        opening = new WebSocket(url, {
          handshakeTimeout: HANDSHAKE_MS,
          maxPayload: MAX_FRAME_BYTES,
          perMessageDeflate: false,
        });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        feed({ type: "closed", reason: `${url}: ${reason}`, random: chance() });
        return;
      }
      socket = opening;
      let said = "connection closed by the server";
      opening.on("open", () => {
        if (socket === opening) feed({ type: "opened" });
      });
      opening.on("message", (data, isBinary) => {
        if (socket === opening) receive(bytesOf(data), isBinary);
      });
      opening.on("error", (error) => {
        said = error.message;
      });
      opening.on("close", () => {
        if (socket !== opening) return;
        socket = null;
        feed({ type: "closed", reason: said, random: chance() });
      });
    };

    const receive = (bytes: Uint8Array, isBinary: boolean): void => {
      try {
        if (!isBinary) throw new FrameError("body", "frame: text, expected binary");
        const { header, body } = decodeFrame(bytes);
        switch (header.kind) {
          case FRAME.hello:
            return feed({ type: "greeted", ...checkServerHello(body) });
          case FRAME.ack:
            return feed({ type: "ack", ack: checkAck(body) });
          case FRAME.credit:
            return feed({ type: "credit", credit: checkCredit(body) });
          case FRAME.goaway:
            return feed({ type: "goaway", goaway: checkGoaway(body) });
          case FRAME.policy:
            policy = checkPolicy(body);
            return;
          default:
            // Commands among them: this agent takes none, whatever the server asks.
            return feed({ type: "skipped" });
        }
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        feed({ type: "bad-frame", reason: error.message });
      }
    };

    const pumpStore = (): void => {
      for (;;) {
        if (state.phase !== "ready" || socket === null || spool.underWay >= state.storeCredit) return;
        const entry = spool.next();
        if (entry === null) return;
        send(withDefinitions(entry));
      }
    };

    const perform = (output: LinkOutput<Window>): void => {
      switch (output.type) {
        case "dial":
          return dial(output.server);
        case "greet":
          if (socket !== null) greet(socket);
          return;
        case "observe":
          return send(dictionary.encode(output.window));
        case "store":
          if (output.rewind) spool.rewind();
          return pumpStore();
        case "stored":
          return spool.ack(output.epoch, output.upTo);
        case "close":
          return hangUp(output.reason);
        case "say":
          return log(output.level, output.text);
      }
    };

    yield* Effect.forkScoped(
      Effect.forever(
        Effect.zipRight(
          Effect.sync(() => feed({ type: "tick", random: 0 })),
          Effect.sleep(TICK),
        ),
      ),
    );
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => state.phase !== "ready" || state.ring.length === 0).pipe(
        Effect.tap((empty) => (empty ? Effect.void : Effect.sleep("50 millis"))),
        Effect.repeat({ until: (empty) => empty }),
        Effect.timeoutOption(FLUSH),
        Effect.zipRight(
          Effect.sync(() => {
            feed({ type: "stop" });
          }),
        ),
        Effect.interruptible,
      ),
    );
    return {
      offer: (window) => feed({ type: "window", window }),
      storeReady: pumpStore,
      refresh: () => feed({ type: "refresh" }),
      state: () => state,
      policy: () => policy,
    };
  });
