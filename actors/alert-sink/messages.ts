/** What an alert sink is told. */
import type { Message } from "../../runtime/actor/Behavior.ts";
import type { AlertPayload } from "../../schemas/incident.ts";

export interface Deliver extends Message {
  readonly type: "deliver";
  readonly payload: AlertPayload;
}

export const sinkPath = (name: string): string => `alert-sink/${name}`;
