/** MySQL's protocol against MariaDB's server: its own clients and one that chooses every byte. */
import { spawn } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import { STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { COMMAND, commandBytes, executeBody, MysqlClient, packet } from "./MysqlClient.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { type Running, startMariadb } from "./servers.ts";
import { exchange, open } from "./traffic.ts";

const N = 10_000;

/** Runs MariaDB's own client over a script; errors do not end it. */
const mariadb = (port: number, script: string, ...args: readonly string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(
      "mariadb",
      ["--no-defaults", "-h", "127.0.0.1", "-P", String(port), "-u", "root", "--force", "-N", ...args],
      { stdio: ["pipe", "pipe", "pipe"] },
    );
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
    child.stderr.resume();
    child.once("error", reject).once("close", () => resolve(said));
    child.stdin.end(script);
  });

describeWith(["bpf", "mariadb"], "MySQL requests at both ends", () => {
  let bed: ProbeBed;
  let server: Running;
  let since: Awaited<ReturnType<ProbeBed["since"]>>;
  const mark = async (): Promise<void> => void (since = await bed.since(server.port, "mysql"));
  /** Expects what was counted since the mark, at the client and at the server alike. */
  const counted = async (ok: number, failed: number): Promise<void> =>
    expect(await since()).toEqual({
      ...(ok > 0 && { ok: [ok, ok] }),
      ...(failed > 0 && { failed: [failed, failed] }),
    });

  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
    server = await startMariadb();
    await mariadb(server.port, "create database d; create table d.t(id int, v text);");
  }, 60_000);
  afterAll(async () => {
    await bed.stop();
    await server.stop();
  });

  it(`counts ${N} statements of MariaDB's client, a tenth of them errors`, async () => {
    await mark();
    const script = "select 1;\n".repeat(9) + "select * from d.missing;\n";
    await mariadb(server.port, script.repeat(N / 10));
    await counted((N * 9) / 10, N / 10);
  });

  it("is not led astray by long results, wide ones and large statements", async () => {
    await mark();
    await mariadb(
      server.port,
      [
        "select seq, repeat('x', 100) from d.seq_1_to_3000;\n".repeat(5),
        "select repeat('y', 200000) from d.seq_1_to_20;\n".repeat(3),
        `select ${Array.from({ length: 300 }, (_, i) => i).join(", ")};\n`,
        `select length('${"z".repeat(300_000)}');\n`,
        "select null from d.seq_1_to_10;\n",
      ].join(""),
      "d",
    );
    // it names the database at its login
    await counted(11, 0);
  });

  it.each([false, true])(
    `counts ${N} executions of prepared statements, without EOF packets: %s`,
    async (deprecate) => {
      await mark();
      const client = await MysqlClient.connect(server.port, deprecate);
      expect(await client.call(COMMAND.prepare, "select concat(?, 'x'), 2")).toBe("ok");
      const good = client.statement;
      // fails as it runs: a subquery of two rows
      expect(await client.call(COMMAND.prepare, "select (select seq from d.seq_1_to_2) + length(?)")).toBe("ok");
      const bad = client.statement;
      for (let i = 0; i < N; i++) {
        const outcome = await client.call(COMMAND.execute, executeBody(i % 10 === 9 ? bad : good, "v"));
        if (outcome !== (i % 10 === 9 ? "failed" : "ok")) throw new Error(`execution ${i} was ${outcome}`);
      }
      client.socket.destroy();
      await counted((N * 9) / 10 + 2, N / 10);
    },
  );

  it.each([false, true])(
    "knows every command and every way that a reply ends, without EOF packets: %s",
    async (deprecate) => {
      await mark();
      const client = await MysqlClient.connect(server.port, deprecate);
      const all: string[] = [];
      const say = async (code: number, body: string | Buffer = "", upload = ""): Promise<void> => {
        all.push(await client.call(code, body, upload));
      };
      await say(COMMAND.ping);
      await say(COMMAND.initDb, "d");
      await say(COMMAND.initDb, "missing");
      await say(COMMAND.statistics);
      await say(COMMAND.fieldList, "t\0");
      await say(COMMAND.query, "insert into t values (1, 'a'), (2, 'b')");
      await say(COMMAND.query, "set @x = 1; select 1; select * from t; update t set v = 'c'");
      await say(COMMAND.query, "select 1; select * from missing; select 2");
      await say(COMMAND.query, "select seq, 1/(50 - seq), (select id from t where seq = 60) from seq_1_to_100");
      await say(COMMAND.query, "load data local infile 'x' into table t", "3\tc\n4\td\n");
      await say(COMMAND.query, "load data local infile 'x' into table missing");
      await say(COMMAND.prepare, "select ? + ?, 3");
      await say(COMMAND.prepare, "do 1");
      await say(COMMAND.execute, executeBody(client.statement));
      await say(COMMAND.prepare, "not sql");
      await say(COMMAND.prepare, "select seq from seq_1_to_50");
      client.socket.write(commandBytes(COMMAND.longData, Buffer.alloc(8)));
      await say(COMMAND.reset, executeBody(client.statement).subarray(0, 4));
      await say(COMMAND.execute, executeBody(client.statement));
      await say(COMMAND.execute, executeBody(client.statement, undefined, true));
      for (const rows of [20, 40]) {
        const fetch = Buffer.alloc(8);
        fetch.writeUInt32LE(client.statement, 0);
        fetch.writeUInt32LE(rows, 4);
        await say(COMMAND.fetch, fetch);
      }
      client.socket.write(commandBytes(COMMAND.close, executeBody(client.statement).subarray(0, 4)));
      await say(COMMAND.query, `select length('${"w".repeat(17_000_000)}')`);
      await say(COMMAND.query, "select repeat('v', 17000000)");
      await say(COMMAND.ping);
      client.socket.write(commandBytes(COMMAND.quit));
      client.socket.destroy();
      const failed = all.filter((one) => one === "failed").length;
      expect([all.length, failed]).toEqual([24, 5]);
      await counted(all.length - failed, failed);
      expect(bed.self("desyncs")).toBe(0);
    },
  );

  it("follows packets that are cut at every byte, and commands sent ahead of replies", async () => {
    await mark();
    const client = await MysqlClient.connect(server.port, true);
    const bytes = commandBytes(COMMAND.query, "select 1, 'abc'");
    for (let round = 0; round < 3; round++) {
      for (const byte of bytes) await new Promise((resolve) => client.socket.write(Buffer.of(byte), resolve));
      expect(await client.reply(COMMAND.query)).toBe("ok");
    }
    for (let round = 0; round < 50; round++) {
      client.socket.write(
        Buffer.concat([bytes, commandBytes(COMMAND.prepare, "select 1, ?"), commandBytes(COMMAND.query, "x"), bytes]),
      );
      expect([
        await client.reply(COMMAND.query),
        await client.reply(COMMAND.prepare),
        await client.reply(COMMAND.query),
        await client.reply(COMMAND.query),
      ]).toEqual(["ok", "ok", "failed", "ok"]);
    }
    client.socket.destroy();
    await counted(153, 50);
  });

  it("counts what was never answered, and shows it while it waits", async () => {
    await mark();
    const client = await MysqlClient.connect(server.port, true);
    await client.query("select 1");
    client.socket.write(commandBytes(COMMAND.query, "select sleep(2)"));
    client.socket.write(commandBytes(COMMAND.ping));
    await bed.settled();
    client.socket.destroy();
    // the server notices when it has slept: it answers the first to nobody
    await bed.until("the end at both", () => bed.both(server.port, "mysql", STATUS.unanswered).every((n) => n > 0));
    await bed.settled();
    expect(bed.both(server.port, "mysql", STATUS.unanswered)[0]).toBe(2);
  });

  it("leaves encrypted and compressed connections alone", async () => {
    await mark();
    for (const flags of [0x8a00, 0x8220]) {
      const socket = await open(server.port);
      await exchange(socket, "", (greeting) => greeting.length > 60);
      const head = Buffer.alloc(32);
      head.writeUInt32LE(flags, 0);
      await exchange(socket, packet(1, head), (answer) => answer.length > 0);
      // would be a command that the server answers, were it not compressed or encrypted
      socket.write(commandBytes(COMMAND.ping));
      socket.destroy();
    }
    await counted(0, 0);
    expect(bed.self("desyncs")).toBe(0);
  });

  it("meets a connection later", async () => {
    const client = await MysqlClient.connect(server.port, true);
    await client.query("select 1");
    const late = await ProbeBed.start();
    try {
      await late.settled();
      for (let i = 0; i < 100; i++) await client.query(i % 2 === 0 ? "select 1" : "nonsense");
      await late.settled();
      expect(late.both(server.port, "mysql", STATUS.ok)).toEqual([50, 50]);
      expect(late.both(server.port, "mysql", STATUS.failed)).toEqual([50, 50]);
    } finally {
      await late.stop();
      client.socket.destroy();
    }
  });
});
