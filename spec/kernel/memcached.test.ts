/** Memcached's text, meta and binary protocols against its server, byte by byte and in pipelines. */
import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { halt, type Running, startMemcached } from "./servers.ts";
import { exchange, open } from "./traffic.ts";

const N = 10_000;

/** Sends commands and expects exactly these replies. */
const say = async (socket: Socket, commands: string, replies: string): Promise<void> => {
  const answer = await exchange(socket, commands, (text) => text.length >= replies.length);
  if (answer !== replies) throw new Error(`${commands.slice(0, 80)} gave ${answer.slice(0, 200)}`);
};

/** A binary command of an opcode, a key, extras and a value. */
const frame = (opcode: number, key = "", extras = Buffer.alloc(0), value = ""): Buffer => {
  const head = Buffer.alloc(24);
  head[0] = 0x80;
  head[1] = opcode;
  head.writeUInt16BE(key.length, 2);
  head[4] = extras.byteLength;
  head.writeUInt32BE(extras.byteLength + key.length + value.length, 8);
  return Buffer.concat([head, extras, Buffer.from(key + value)]);
};
const set = (key: string, value: string, opcode = 0x01): Buffer => frame(opcode, key, Buffer.alloc(8), value);
const increment = (key: string, opcode = 0x05): Buffer => {
  const extras = Buffer.alloc(20);
  extras[7] = 1;
  return frame(opcode, key, extras);
};

/** Sends binary commands and reads so many replies: their status codes. */
const ask = async (socket: Socket, bytes: Buffer, replies: number): Promise<readonly number[]> => {
  let codes: number[] = [];
  await exchange(socket, bytes, (answer) => {
    const got = Buffer.from(answer, "latin1");
    codes = [];
    for (let at = 0; at + 24 <= got.byteLength; ) {
      const next = at + 24 + got.readUInt32BE(at + 8);
      if (next > got.byteLength) break;
      codes.push(got.readUInt16BE(at + 6));
      at = next;
    }
    return codes.length >= replies;
  });
  return codes;
};

describeWith(["bpf", "memcached"], "Memcached requests at both ends", () => {
  let bed: ProbeBed;
  let server: Running;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
    server = await startMemcached();
  });
  afterAll(async () => {
    await bed.stop();
    await server.stop();
  });

  describe("in text", () => {
    it.each([1, 20])(`counts ${N} commands in pipelines of %i, a tenth of them errors`, async (depth) => {
      const counts = await bed.since(server.port, "memcached");
      const socket = await open(server.port);
      // one connection of its own per depth begins with another command
      const commands = [
        "get miss\r\n",
        "set k 0 0 5\r\nhello\r\n",
        "get k miss k\r\n",
        "incr k 1\r\n",
        "delete miss\r\n",
      ];
      const replies = [
        "END\r\n",
        "STORED\r\n",
        `${"VALUE k 0 5\r\nhello\r\n".repeat(2)}END\r\n`,
        "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        "NOT_FOUND\r\n",
      ];
      const one = (i: number, of: readonly string[]): string => of[i % 10 === 3 ? 3 : ([0, 1, 2, 4][i % 4] ?? 0)] ?? "";
      for (let i = 0; i < N; i += depth) {
        const turn = Array.from({ length: depth }, (_, at) => i + at);
        await say(socket, turn.map((at) => one(at, commands)).join(""), turn.map((at) => one(at, replies)).join(""));
      }
      socket.destroy();
      expect(await counts()).toEqual({ ok: [(N * 9) / 10, (N * 9) / 10], failed: [N / 10, N / 10] });
    });

    it("tells what is answered from what is not, and large values from lines", async () => {
      const counts = await bed.since(server.port, "memcached");
      const socket = await open(server.port);
      const large = "get x\r\n".repeat(40_000);
      await say(socket, `set large 0 0 ${large.length}\r\n${large}\r\n`, "STORED\r\n");
      await say(socket, "get large\r\n", `VALUE large 0 ${large.length}\r\n${large}\r\nEND\r\n`);
      await say(socket, "set a 0 0 1 noreply\r\nb\r\ndelete none noreply\r\nget a\r\n", "VALUE a 0 1\r\nb\r\nEND\r\n");
      await say(socket, "incr large 1 noreply\r\ntouch a 100\r\n", "TOUCHED\r\n");
      await say(socket, "set n 0 0 2\r\n41\r\nincr n 1\r\n", "STORED\r\n42\r\n");
      await say(socket, `get ${"key".repeat(80)} ${"k".repeat(250)}\r\n`, "END\r\n");
      await say(socket, "nonsense\r\n", "ERROR\r\n");
      await say(
        socket,
        "set big 0 0 2000000\r\n" + "x".repeat(2_000_000) + "\r\n",
        "SERVER_ERROR object too large for cache\r\n",
      );
      await say(socket, "verbosity 1\r\nflush_all 100\r\n", "OK\r\nOK\r\n");
      await exchange(socket, "stats\r\n", (text) => text.endsWith("END\r\n"));
      await say(socket, "add a 0 0 1\r\nx\r\nreplace z 0 0 1\r\ny\r\n", "NOT_STORED\r\nNOT_STORED\r\n");
      // meta commands: a miss, a hit with its value, quiet ones that say nothing, and the one that ends a batch
      await say(socket, "mg no v\r\nmg n v\r\nms m 3\r\nabc\r\n", "EN\r\nVA 2\r\n42\r\nHD\r\n");
      await say(socket, "ms q 3 q\r\nabc\r\nmg none v q\r\nmn\r\n", "MN\r\n");
      socket.write("quit\r\n");
      socket.destroy();
      expect(await counts()).toEqual({ ok: [16, 16], failed: [2, 2] });
      expect(bed.self("desyncs")).toBe(0);
    });

    it("follows commands and replies that are cut at every byte", async () => {
      const counts = await bed.since(server.port, "memcached");
      const socket = await open(server.port);
      await say(socket, "get a-key-that-is-longer-than-a-few-words\r\n", "END\r\n");
      const bytes = "set a-key-that-is-longer-than-a-few-words 123 0 12\r\nget a\r\nget b\r\n";
      for (const byte of bytes) await new Promise((resolve) => socket.write(byte, resolve));
      await say(socket, "", "STORED\r\n");
      for (const byte of "mg a-key-that-is-longer-than-a-few-words v q\r\nmn\r")
        await new Promise((resolve) => socket.write(byte, resolve));
      await say(socket, "\n", "VA 12\r\nget a\r\nget b\r\nMN\r\n");
      socket.destroy();
      expect(await counts()).toEqual({ ok: [3, 3] });
    });
  });

  describe("in binary", () => {
    it(`counts ${N} commands, a tenth of them errors`, async () => {
      const counts = await bed.since(server.port, "memcached");
      const socket = await open(server.port);
      const commands = [set("b", "value"), frame(0x00, "b"), frame(0x00, "none"), increment("b"), frame(0x0a)];
      const expected = [0, 0, 1, 6, 0];
      for (let i = 0; i < N; i += 10) {
        const turn = [0, 1, 2, 3, 4, 0, 1, 2, 1, 4];
        const codes = await ask(socket, Buffer.concat(turn.map((one) => commands[one] ?? Buffer.alloc(0))), 10);
        expect(codes).toEqual(turn.map((one) => expected[one]));
      }
      socket.destroy();
      expect(await counts()).toEqual({ ok: [(N * 9) / 10, (N * 9) / 10], failed: [N / 10, N / 10] });
    });

    it("takes quiet commands as part of the one that has an answer", async () => {
      const counts = await bed.since(server.port, "memcached");
      const socket = await open(server.port);
      await ask(socket, set("b", "y".repeat(30_000)), 1);
      // hits speak up, misses do not
      const batch = [frame(0x09, "none"), frame(0x0d, "b"), set("q", "1", 0x11), frame(0x09, "b"), frame(0x0a)];
      for (let i = 0; i < 50; i++) expect(await ask(socket, Buffer.concat(batch), 3)).toEqual([0, 0, 0]);
      // of these one fails
      for (let i = 0; i < 20; i++)
        expect(await ask(socket, Buffer.concat([increment("b", 0x15), set("q", "1", 0x11), frame(0x0a)]), 2)).toEqual([
          6, 0,
        ]);
      for (const byte of Buffer.concat([set("c", "value"), frame(0x00, "c")]))
        await new Promise((resolve) => socket.write(Buffer.of(byte), resolve));
      await ask(socket, frame(0x10), 3);
      socket.destroy();
      expect(await counts()).toMatchObject({ failed: [20, 20], ok: [54, 54] });
      expect(bed.self("desyncs")).toBe(0);
    });
  });

  it("shows no request that still waits, and counts one that is cut off", async () => {
    const counts = await bed.since(server.port, "memcached");
    const socket = await open(server.port);
    await say(socket, "get nothing\r\n", "END\r\n");
    await halt(server.child.pid ?? 0);
    socket.write("get a\r\nget b\r\n");
    await bed.settled();
    socket.destroy();
    server.child.kill("SIGCONT");
    await bed.until("the end at the client", () => bed.both(server.port, "memcached", STATUS.unanswered)[0] > 0);
    expect((await counts())["unanswered"]?.[0]).toBe(2);
  });
});
