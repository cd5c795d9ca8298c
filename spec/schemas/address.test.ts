import { describe, expect, it } from "vitest";
import { addressText } from "../../schemas/wire/address.ts";

const bytes = (...words: readonly number[]): Uint8Array => Uint8Array.from(words.flatMap((w) => [w >> 8, w & 255]));

describe("text of an address", () => {
  it.each([
    ["127.0.0.1", bytes(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1)],
    ["0.0.0.0", bytes(0, 0, 0, 0, 0, 0xffff, 0, 0)],
    ["::1", bytes(0, 0, 0, 0, 0, 0, 0, 1)],
    ["fe80::1:2", bytes(0xfe80, 0, 0, 0, 0, 0, 1, 2)],
    ["2001:db8:0:1:1:1:1:1", bytes(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1)],
    ["2001:db8::1:0:0:1", bytes(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1)],
    ["2001:db8::", bytes(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0)],
    ["::", bytes(0, 0, 0, 0, 0, 0, 0, 0)],
  ])("writes %s", (text, address) => {
    expect(addressText(address, 0)).toBe(text);
  });

  it("reads from the middle of a frame", () => {
    const frame = new Uint8Array(40);
    frame.set(bytes(0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0005), 16);
    expect(addressText(frame, 16)).toBe("10.0.0.5");
  });
});
