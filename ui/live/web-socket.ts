/** The browser's WebSocket as the live store uses it: three events in, text out, and silence after `close`. */
import type { Socket, SocketEvents } from "../live.ts";

export const connectTo =
  (address: URL) =>
  ({ onOpen, onText, onEnd }: SocketEvents): Socket => {
    const socket = new WebSocket(address);
    const listening = new AbortController();
    const { signal } = listening;
    socket.addEventListener("open", onOpen, { signal });
    socket.addEventListener(
      "message",
      ({ data }: MessageEvent<unknown>) => onText(typeof data === "string" ? data : null),
      { signal },
    );
    // "error" is always followed by "close"
    socket.addEventListener("close", onEnd, { signal });
    return {
      send: (text) => socket.send(text),
      close: () => {
        listening.abort();
        socket.close();
      },
    };
  };
