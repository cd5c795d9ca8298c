/** A full mailbox: carries out what the behaviour says about that type of message, and counts it with the actor. */
import { Metric } from "effect";
import type { Cell } from "./Cell.ts";
import type { Envelope } from "./Mailbox.ts";

const shedTotal = Metric.counter("actor_messages_shed_total", { incremental: true });
const mergedTotal = Metric.counter("actor_messages_merged_total", { incremental: true });

const shed = (cell: Cell): void => {
  cell.shed++;
  shedTotal.unsafeUpdate(1, []);
};

/** Says whether the message was taken. One that somebody waits for is never merged, and nothing gives way to it. */
export const makeRoom = (cell: Cell, envelope: Envelope): boolean => {
  const { message, ask } = envelope;
  const policy = ask === 0 ? (cell.behavior.messages[message.type] ?? "refuse") : "refuse";
  const same = (other: Envelope): boolean => other.ask === 0 && other.message.type === message.type;
  if (policy === "drop-oldest" && cell.mailbox.dropFirst(same)) {
    shed(cell);
    return cell.mailbox.push(envelope);
  }
  const waiting = typeof policy === "string" ? undefined : cell.mailbox.findLast(same);
  const merged = typeof policy === "string" || waiting === undefined ? null : policy.merge(waiting.message, message);
  if (waiting === undefined || merged === null) {
    shed(cell);
    return false;
  }
  waiting.message = merged;
  cell.merged++;
  mergedTotal.unsafeUpdate(1, []);
  return true;
};
