/** Traffic that is none of the protocols, though it may look like one: it stays unknown, with its bytes counted. */
import { createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ROLE } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { open } from "./traffic.ts";

/** The same bytes on each run. */
const random = (() => {
  let state = 12345;
  return (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
})();
const noise = (least: number, most: number): Buffer =>
  Buffer.from(Array.from({ length: least + random(most - least) }, () => random(256)));
const big = (n: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(n >>> 0);
  return bytes;
};
const little = (n: number): Buffer => big(n).reverse();
const framed = (...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([big(body.byteLength), body]);
};
const text = (words: string): readonly Buffer[] => [Buffer.from(words)];

/** What client and server say in turn `i`, each in one or several pieces. */
interface Talk {
  readonly ask: (i: number) => readonly Buffer[];
  readonly answer: (i: number) => readonly Buffer[];
}
const talks: Readonly<Record<string, Talk>> = {
  "random bytes": { ask: () => [noise(1, 200)], answer: () => [noise(1, 200)] },
  "one random byte": { ask: () => [noise(1, 2)], answer: () => [noise(1, 2)] },
  "frames with a length, a number and a kind, like ZooKeeper's": {
    ask: (i) => [framed(big(i), big(i % 20), noise(10, 60))],
    answer: (i) => [framed(big(i), noise(20, 60))],
  },
  "frames that begin with zeros, like a first packet of ZooKeeper": {
    ask: () => [framed(Buffer.alloc(8), noise(10, 30))],
    answer: () => [framed(big(1), noise(20, 60))],
  },
  "frames with two small numbers, like Kafka's": {
    ask: (i) => [framed(Buffer.of(0, i % 50, 0, i % 9), big(i), noise(10, 60))],
    answer: () => [framed(noise(20, 60))],
  },
  "frames whose length comes alone, like MySQL's": {
    ask: (i) => [little(8), Buffer.concat([little(i), noise(4, 5)])],
    answer: (i) => [little(8), Buffer.concat([little(i), noise(4, 5)])],
  },
  "frames with a kind and a length, like AMQP's": {
    ask: (i) => [
      Buffer.concat([Buffer.of(1, 0, 1), big(20), Buffer.of(0, 60, 0, 40), noise(16, 17), Buffer.of(i % 200)]),
    ],
    answer: () => [Buffer.concat([Buffer.of(1, 0, 1), big(20), noise(21, 22)])],
  },
  "frames of a version, like Cassandra's": {
    ask: (i) => [Buffer.concat([Buffer.of(4, 0, 0, i, 7), big(30), noise(30, 31)])],
    answer: () => [Buffer.concat([Buffer.of(4, 0), noise(30, 40)])],
  },
  "a query that is none, like ClickHouse's": {
    ask: () => [Buffer.concat([Buffer.of(1, 4), Buffer.from("name"), Buffer.of(1, 3), noise(30, 50)])],
    answer: () => [Buffer.concat([Buffer.of(0x7f), noise(30, 50)])],
  },
  "jobs of beanstalkd, like Memcached's": {
    ask: (i) =>
      text(["reserve\r\n", `delete ${i}\r\n`, "put 0 0 60 5\r\nhello\r\n", `touch ${i}\r\n`][(i - 1) % 4] ?? ""),
    answer: (i) =>
      text([`RESERVED ${i} 5\r\nhello\r\n`, "DELETED\r\n", `INSERTED ${i}\r\n`, "TOUCHED\r\n"][(i - 1) % 4] ?? ""),
  },
  "lines of a text protocol, like NATS": {
    ask: (i) => text([`MSG bob hello\r\n`, "SUB news\r\n", "PING\r\n"][i % 3] ?? ""),
    answer: (i) => text(["MSG alice hi there\r\n", "OK\r\n", "ALIVE\r\n"][i % 3] ?? ""),
  },
  "commands with a code in the answer, like SMTP": {
    ask: (i) => text(["EHLO spec\r\n", "MAIL FROM:<a@b>\r\n", "get the news\r\n", "QUIT 5\r\n"][(i - 1) % 4] ?? ""),
    answer: () => text("250 fine\r\n"),
  },
  "lines that begin with a star": { ask: () => text("*3 stars\r\n"), answer: () => text("+1 like\r\n") },
};
const TURNS = 24;

describeWith(["bpf"], "traffic that is none of the protocols", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  /** Holds a conversation on one connection after another: from its beginning, and after another word. */
  const hold = async (talk: Talk, connections: number): Promise<{ readonly port: number; readonly bytes: number }> => {
    let sent = 0;
    const server = createServer((socket) => {
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
    });
    const say = async (write: (bytes: Buffer) => Promise<void>, pieces: readonly Buffer[]): Promise<void> => {
      for (const piece of pieces) await write(piece);
    };
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    for (let c = 0; c < connections; c++) {
      const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
      const client = await open(port);
      const peer = await accepted;
      const send =
        (from: Socket, to: Socket) =>
        async (bytes: Buffer): Promise<void> => {
          if (from === client) sent += bytes.byteLength;
          let got = 0;
          const arrived = new Promise<void>((resolve) => {
            const take = (chunk: Buffer): void => {
              got += chunk.byteLength;
              if (got < bytes.byteLength) return;
              to.off("data", take);
              resolve();
            };
            to.on("data", take);
          });
          from.write(bytes);
          await arrived;
        };
      if (c % 2 === 1) {
        await say(send(client, peer), text("?? what\n"));
        await say(send(peer, client), text("!! that\n"));
      }
      for (let i = 1; i <= TURNS; i++) {
        await say(send(client, peer), talk.ask(i));
        await say(send(peer, client), talk.answer(i));
      }
      client.destroy();
    }
    server.close();
    return { port, bytes: sent };
  };

  it.each(Object.keys(talks))("%s stay unknown", async (name) => {
    const talk = talks[name];
    if (talk === undefined) throw new Error(name);
    const { port, bytes } = await hold(talk, name.includes("random") ? 100 : 4);
    await bed.until("the bytes", () => bed.find({ port, role: ROLE.client })[0]?.bytesOut === bytes);
    await bed.settled();
    expect(bed.find({ port }).flatMap((edge) => [...edge.requests])).toEqual([]);
    expect(bed.find({ port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
  });
});
