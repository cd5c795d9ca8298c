/**
 * A receiver of alerts on loopback: notes when each delivery came and answers 200. Owned by the check; a body that is no
 * alert is answered 400 and counted, so that a wrong sender shows. Closed by the Cleanup.
 */
import { createServer } from "node:http";
import { now } from "./clock.ts";
import type { Cleanup } from "./cleanup.ts";

export interface Delivery {
  readonly event: string;
  readonly incident: string;
  readonly arrivedAt: number;
}

export interface Receiver {
  readonly url: string;
  readonly deliveries: readonly Delivery[];
  readonly refused: () => number;
}

const readDelivery = (body: string): Delivery | null => {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return null;
  }
  if (typeof parsed !== "object" || parsed === null || !("event" in parsed) || !("incident" in parsed)) return null;
  const { event, incident } = parsed;
  if (typeof event !== "string" || typeof incident !== "object" || incident === null) return null;
  if (!("id" in incident) || typeof incident.id !== "string") return null;
  return { event, incident: incident.id, arrivedAt: now() };
};

export const startReceiver = (cleanup: Cleanup): Promise<Receiver> =>
  new Promise((resolve, reject) => {
    const deliveries: Delivery[] = [];
    let refused = 0;
    const server = createServer((request, response) => {
      let body = "";
      request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
      request.once("end", () => {
        const delivery = readDelivery(body);
        if (delivery === null) refused += 1;
        else deliveries.push(delivery);
        response.writeHead(delivery === null ? 400 : 200).end();
      });
    });
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      if (address === null || typeof address === "string") return reject(new Error("the receiver has no port"));
      cleanup.add("webhook receiver", async () => {
        server.closeAllConnections();
        await new Promise<void>((closed) => server.close(() => closed()));
      });
      return resolve({ url: `http://127.0.0.1:${address.port}/alerts`, deliveries, refused: () => refused });
    });
  });
