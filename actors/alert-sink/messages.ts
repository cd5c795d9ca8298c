/** What an alert sink is told. */
import type { Message } from "../../runtime/actor/Behavior.ts";
import type { AlertPayload } from "../../schemas/incident.ts";

export interface Deliver extends Message {
  readonly type: "deliver";
  readonly payload: AlertPayload;
  /** what the sink says `done` to once it is delivered */
  readonly durable: string;
}

export const durableKey = (transition: string, sink: string): string => `${transition}@${sink}`;

export const sinkPath = (name: string): string => `alert-sink/${name}`;
