/**
 * A client of MySQL's and MariaDB's protocol for specs: one connection, commands as bytes, and replies read to their ends
 * by rules of their own (from the capabilities that it asked for), so that they are no copy of the probe's. A reply that
 * breaks off fails with the connection's error.
 */
import type { Socket } from "node:net";
import { open } from "./traffic.ts";

const CLIENT = {
  longPassword: 1,
  connectWithDb: 8,
  localFiles: 1 << 7,
  protocol41: 1 << 9,
  ssl: 1 << 11,
  transactions: 1 << 13,
  secure: 1 << 15,
  multiStatements: 1 << 16,
  multiResults: 1 << 17,
  pluginAuth: 1 << 19,
  deprecateEof: 1 << 24,
} as const;

export const COMMAND = {
  quit: 1,
  initDb: 2,
  query: 3,
  fieldList: 4,
  statistics: 9,
  ping: 14,
  prepare: 0x16,
  execute: 0x17,
  longData: 0x18,
  close: 0x19,
  reset: 0x1a,
  fetch: 0x1c,
} as const;

interface Packet {
  readonly seq: number;
  readonly body: Buffer;
}

export const packet = (seq: number, body: Buffer): Buffer => {
  const head = Buffer.alloc(4);
  head.writeUIntLE(body.byteLength, 0, 3);
  head[3] = seq;
  return Buffer.concat([head, body]);
};

/** A command as bytes on the wire; one of 16 MB or more in several packets. */
export const commandBytes = (code: number, body: string | Buffer = ""): Buffer => {
  const whole = Buffer.concat([Buffer.from([code]), Buffer.from(body)]);
  const parts: Buffer[] = [];
  for (let at = 0, seq = 0; ; at += 0xffffff, seq++) {
    parts.push(packet(seq, whole.subarray(at, at + 0xffffff)));
    if (whole.byteLength - at < 0xffffff) return Buffer.concat(parts);
  }
};

/** Executes a prepared statement with one string parameter; `cursor` leaves its rows to be fetched. */
export const executeBody = (statement: number, parameter?: string, cursor = false): Buffer => {
  const head = Buffer.alloc(9);
  head.writeUInt32LE(statement, 0);
  head[4] = cursor ? 1 : 0;
  head.writeUInt32LE(1, 5);
  if (parameter === undefined) return head;
  return Buffer.concat([head, Buffer.from([0, 1, 0xfe, 0, parameter.length]), Buffer.from(parameter)]);
};

const lengthOf = (body: Buffer, at: number): readonly [value: number, next: number] => {
  const first = body[at] ?? 0;
  if (first < 0xfb) return [first, at + 1];
  if (first === 0xfc) return [body.readUInt16LE(at + 1), at + 3];
  if (first === 0xfd) return [body.readUIntLE(at + 1, 3), at + 4];
  return [Number(body.readBigUInt64LE(at + 1)), at + 9];
};

export type Outcome = "ok" | "failed";

export class MysqlClient {
  readonly socket: Socket;
  private readonly packets: Packet[] = [];
  private held: Buffer = Buffer.alloc(0);
  private wake: (() => void) | null = null;
  private gone: Error | null = null;
  private eof = true;
  /** number of the statement prepared last */
  statement = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.held = this.held.byteLength === 0 ? chunk : Buffer.concat([this.held, chunk]);
      while (this.held.byteLength >= 4 && this.held.byteLength >= 4 + this.held.readUIntLE(0, 3)) {
        const length = this.held.readUIntLE(0, 3);
        this.packets.push({ seq: this.held[3] ?? 0, body: this.held.subarray(4, 4 + length) });
        this.held = this.held.subarray(4 + length);
      }
      this.wake?.();
    });
    const end = (error?: Error): void => {
      this.gone = error ?? new Error("the server closed the connection");
      this.wake?.();
    };
    socket.once("error", end).once("close", () => end());
  }

  /** Logs in; with `deprecateEof` result sets end in an OK packet and have no EOF after their columns. */
  static async connect(port: number, deprecateEof: boolean): Promise<MysqlClient> {
    const client = new MysqlClient(await open(port));
    client.eof = !deprecateEof;
    await client.next();
    const flags =
      CLIENT.longPassword |
      CLIENT.protocol41 |
      CLIENT.transactions |
      CLIENT.secure |
      CLIENT.localFiles |
      CLIENT.multiStatements |
      CLIENT.multiResults |
      CLIENT.pluginAuth |
      (deprecateEof ? CLIENT.deprecateEof : 0);
    const head = Buffer.alloc(32);
    head.writeUInt32LE(flags, 0);
    head.writeUInt32LE(1 << 24, 4);
    head[8] = 33;
    client.socket.write(packet(1, Buffer.concat([head, Buffer.from("root\0\0mysql_native_password\0")])));
    const answer = await client.next();
    if (answer.body[0] !== 0) throw new Error(`login refused: ${answer.body.subarray(9).toString()}`);
    return client;
  }

  private async next(): Promise<Packet> {
    for (;;) {
      const first = this.packets.shift();
      if (first !== undefined) return first;
      if (this.gone !== null) throw this.gone;
      await new Promise<void>((resolve) => (this.wake = resolve));
      this.wake = null;
    }
  }

  /** Sends a command and reads its reply; `upload` is what the server gets where it asks for a file. */
  async call(code: number, body: string | Buffer = "", upload = ""): Promise<Outcome> {
    this.socket.write(commandBytes(code, body));
    return this.reply(code, upload);
  }

  query(sql: string): Promise<Outcome> {
    return this.call(COMMAND.query, sql);
  }

  async reply(code: number, upload = ""): Promise<Outcome> {
    for (;;) {
      const { seq, body } = await this.next();
      if (body[0] === 0xff) return "failed";
      if (code === COMMAND.statistics) return "ok";
      if (code === COMMAND.prepare) {
        this.statement = body.readUInt32LE(1);
        for (const count of [body.readUInt16LE(7), body.readUInt16LE(5)])
          for (let i = count === 0 ? 0 : count + (this.eof ? 1 : 0); i > 0; i--) await this.next();
        return "ok";
      }
      if (code === COMMAND.fieldList || code === COMMAND.fetch)
        return (await this.rows(body)) === null ? "failed" : "ok";
      if (body[0] === 0xfb) {
        if (upload !== "") this.socket.write(packet(seq + 1, Buffer.from(upload)));
        this.socket.write(packet(seq + (upload === "" ? 1 : 2), Buffer.alloc(0)));
        continue;
      }
      let flags: number | null;
      if (body[0] === 0) flags = this.flags(body);
      else {
        for (let i = lengthOf(body, 0)[0]; i > 0; i--) await this.next();
        const cursor = this.eof ? this.flags((await this.next()).body) & 64 : 0;
        flags = cursor !== 0 ? 0 : await this.rows((await this.next()).body);
      }
      if (flags === null) return "failed";
      if ((flags & 8) === 0) return "ok";
    }
  }

  private flags(body: Buffer): number {
    if (body[0] === 0xfe && body.byteLength === 5) return body.readUInt16LE(3);
    return body.readUInt16LE(lengthOf(body, lengthOf(body, 1)[1])[1]);
  }

  /** Reads rows to their end: the end's flags, null for an error. */
  private async rows(first: Buffer): Promise<number | null> {
    for (let body = first; ; body = (await this.next()).body) {
      if (body[0] === 0xff) return null;
      if (body[0] === 0xfe && body.byteLength < 0xffffff) return this.flags(body);
      while (body.byteLength === 0xffffff) body = (await this.next()).body;
    }
  }
}
