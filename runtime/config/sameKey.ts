/** Whether a key that somebody shows is the expected one, compared in constant time whatever the lengths. */
import { createHash, timingSafeEqual } from "node:crypto";

const digest = (text: string): Buffer => createHash("sha256").update(text, "utf8").digest();

export const sameKey = (given: string, expected: string): boolean => timingSafeEqual(digest(given), digest(expected));
