/**
 * Heads of requests as spans: a labelled corpus by protocol, whole, cut at every offset and behind garbage; what each
 * parser makes of the others' streams; statements, keys and paths without their values; and bytes of any kind.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  describe as describeSpan,
  Statements,
  traceParent,
  type Described,
} from "../../../../agent/node/spans/describe.ts";
import { fingerprint, keyPattern, obfuscate, pathTemplate } from "../../../../agent/node/spans/text.ts";
import { type ProbeSpan, TOLD } from "../../../../agent/node/probe/ProbeTick.ts";
import { PROTOCOLS, type ProtocolName, ROLE, STATUS } from "../../../../schemas/wire/observe.ts";
import { CORPUS, mysqlCommand, PARENT_ID, pgExtended, pgMessage, pgQuery, TRACE_ID } from "./corpus.ts";

const spanOf = (protocol: ProtocolName, head: Uint8Array, more: Partial<ProbeSpan> = {}): ProbeSpan => ({
  edge: 1,
  role: ROLE.server,
  protocol: PROTOCOLS.indexOf(protocol),
  status: STATUS.ok,
  told: TOLD.sampled,
  startNs: 1,
  durationNs: 1,
  socket: 7,
  tgid: 1,
  thread: 1,
  parentNs: 0,
  seq: 1,
  initial: [1, 2],
  weight: 1,
  inserted: 0,
  count: 1,
  head: head.subarray(0, 511),
  reply: new Uint8Array(),
  ...more,
});
const told = (span: ProbeSpan, statements = new Statements()): Described => {
  const found = describeSpan(span, statements);
  if (found === null) throw new Error("nothing is told");
  return found;
};
const READ = [...new Set(CORPUS.map(({ protocol }) => protocol))];

describe("the corpus", () => {
  it.each(CORPUS.map((one) => [`${one.protocol}: ${one.name}`, one] as const))(
    "%s",
    (_, { protocol, bytes, name, secrets }) => {
      const described = told(spanOf(protocol, bytes));
      expect(described.name).toBe(name);
      const text = JSON.stringify(described);
      for (const secret of secrets ?? []) expect(text).not.toContain(secret);
    },
  );

  it("gives no stream to another protocol", () => {
    const matrix = new Map<string, number>();
    for (const { protocol, bytes } of CORPUS)
      for (const reader of READ)
        if (told(spanOf(reader, bytes)).endpoint !== "") {
          const cell = `${protocol} read as ${reader}`;
          matrix.set(cell, (matrix.get(cell) ?? 0) + 1);
        }
    const expected = new Map<string, number>();
    for (const { protocol } of CORPUS) {
      const cell = `${protocol} read as ${protocol}`;
      expected.set(cell, (expected.get(cell) ?? 0) + 1);
    }
    expect(Object.fromEntries(matrix)).toEqual(Object.fromEntries(expected));
  });

  it("never takes a cut stream for another request", () => {
    const wrong: string[] = [];
    for (const { protocol, bytes, name, secrets } of CORPUS)
      for (let n = 0; n < bytes.length; n++) {
        const described = told(spanOf(protocol, bytes.subarray(0, n)));
        const [word = ""] = name.split(/[ /]/);
        const fits =
          described.endpoint === "" ||
          described.name.startsWith(word) ||
          ["mysql", "postgresql", "mongodb", "cassandra", "dubbo", "INSERT", "QUERY", "PREPARE", "UPDATE"].includes(
            described.name,
          ) ||
          word.startsWith(described.name);
        if (!fits) wrong.push(`${protocol} at ${n}: ${described.name}, not ${name}`);
        for (const secret of secrets ?? [])
          if (secret.length > 2 && JSON.stringify(described).includes(secret))
            wrong.push(`${protocol} at ${n}: tells ${secret}`);
      }
    expect(wrong).toEqual([]);
  });

  it("tells the protocol alone behind garbage", () => {
    for (const { protocol, bytes } of CORPUS)
      for (const garbage of [Buffer.from([0xff, 0xfe, 0xfd]), Buffer.from("}{\n\n"), Buffer.alloc(9, 0x7f)])
        expect([protocol, told(spanOf(protocol, Buffer.concat([garbage, bytes]))).endpoint]).toEqual([protocol, ""]);
  });
});

describe("bytes of any kind", () => {
  it("never throw, and give names of bounded length", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...PROTOCOLS.filter((name) => name !== "dns")),
        fc.oneof(
          fc.uint8Array({ maxLength: 511 }),
          fc.tuple(fc.constantFrom(...CORPUS), fc.nat(510), fc.nat(255)).map(([{ bytes }, at, value]) => {
            const changed = Buffer.from(bytes);
            if (changed.length > 0) changed[at % changed.length] = value;
            return changed;
          }),
        ),
        fc.uint8Array({ maxLength: 127 }),
        fc.constantFrom(...Object.values(STATUS)),
        (protocol, head, reply, status) => {
          const statements = new Statements(4);
          const described = told(spanOf(protocol, head, { reply, status }), statements);
          expect(described.name.length).toBeLessThan(1_200);
          expect(statements.size).toBeLessThanOrEqual(4);
        },
      ),
      { numRuns: 4_000 },
    );
  });

  it("leave no quoted text and no number in a statement", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z ]{0,20}$/), fc.nat(), fc.boolean(), (text, n, mysql) => {
        const sql = `select a from t where x = 'q${text.replaceAll("'", "''")}z' and y = ${n} and z in (${n}, ${n}, '${text}')`;
        expect(obfuscate(sql, mysql)).toBe("select a from t where x = ? and y = ? and z in (?)");
      }),
    );
    fc.assert(
      fc.property(fc.string({ maxLength: 511 }), fc.boolean(), (sql, mysql) => {
        expect(obfuscate(sql, mysql).length).toBeLessThanOrEqual(2 * sql.length + 1);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("statements", () => {
  it("are one in all their forms", () => {
    const forms = [
      "SELECT a FROM t WHERE b IN (1,2) -- x",
      "select  a\nfrom t where b in (3 , 4, 5)",
      "/* y */ select a from t where b in ($1)",
    ];
    expect(new Set(forms.map((sql) => fingerprint(obfuscate(sql, false)))).size).toBe(1);
    expect(obfuscate("insert into t (a, b) values (1, 'x'), (2, 'y');", false)).toBe("insert into t (a, b) values (?)");
    expect(obfuscate(`select "a b", c1 from t2 where d = x'ff' and e=-1.5e3`, false)).toBe(
      'select "a b", c1 from t2 where d = ? and e=-?',
    );
  });

  it("are known by their names later: PostgreSQL", () => {
    const statements = new Statements();
    const prepare = pgExtended("by_name", "select id from users where name = $1");
    expect(describeSpan(spanOf("postgres", prepare, { told: TOLD.statement }), statements)).toBeNull();
    const bind = Buffer.concat([
      pgMessage("B", "\0by_name\0", "\0\0\0\0\0\0"),
      pgMessage("E", "\0\0\0\0\0"),
      pgMessage("S"),
    ]);
    expect(told(spanOf("postgres", bind), statements)).toMatchObject({
      name: "select users".replace("select", "SELECT"),
      attributes: { "db.query.text": "select id from users where name = ?" },
    });
    expect(told(spanOf("postgres", bind, { socket: 8 }), statements).name).toBe("postgresql");
  });

  it("are known by their numbers later: MySQL", () => {
    const statements = new Statements();
    const reply = Buffer.from([12, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    describeSpan(
      spanOf("mysql", mysqlCommand(0x16, "select a from t where b = ?"), { reply, told: TOLD.statement }),
      statements,
    );
    expect(told(spanOf("mysql", mysqlCommand(0x17, Buffer.from([9, 0, 0, 0, 0]))), statements).name).toBe("SELECT t");
  });

  it("tell why they failed", () => {
    const reply = pgMessage("E", "SERROR\0", "C42P01\0", "Mrelation does not exist: secret\0", "\0");
    const failed = told(spanOf("postgres", pgQuery("select 1 from nowhere"), { reply, status: STATUS.failed }));
    expect(failed.attributes).toMatchObject({ "db.response.status_code": "42P01", "error.type": "42P01" });
    expect(JSON.stringify(failed)).not.toContain("secret");
    const redis = told(
      spanOf("redis", Buffer.from("*1\r\n$4\r\nINCR\r\n"), {
        reply: Buffer.from("-WRONGTYPE no\r\n"),
        status: STATUS.failed,
      }),
    );
    expect(redis.problem).toBe("WRONGTYPE");
  });
});

describe("paths, keys and trace context", () => {
  it("stand for many", () => {
    expect(pathTemplate("/a/0123456789abcdef/b.html?x#y")).toBe("/a/{hash}/b.html");
    expect(pathTemplate("/%2e%2e/etc")).toBe("/{text}/etc");
    expect(pathTemplate(`/${"x/".repeat(20)}`)).toBe("/x/x/x/x/x/x/x/x/*");
    expect(keyPattern("cache|item-77|v2")).toBe("cache|item-*|v2");
  });

  it("come from the header", () => {
    expect(traceParent(`00-${TRACE_ID}-${PARENT_ID}-01`)).toEqual({
      traceId: TRACE_ID,
      spanId: PARENT_ID,
      sampled: true,
    });
    for (const text of [
      `ff-${TRACE_ID}-${PARENT_ID}-01`,
      `00-${"0".repeat(32)}-${PARENT_ID}-01`,
      `00-${TRACE_ID}-${"0".repeat(16)}-01`,
      `00-${TRACE_ID}-${PARENT_ID}-01-more`,
      `00-${TRACE_ID.toUpperCase()}-${PARENT_ID}-01`,
      "x",
    ])
      expect(traceParent(text)).toBeNull();
    const head = CORPUS.find(({ name }) => name === "HEAD /")?.bytes ?? Buffer.alloc(0);
    expect(told(spanOf("http", head)).parent?.traceId).toBe(TRACE_ID);
    // a line that was cut is not believed
    expect(told(spanOf("http", head.subarray(0, head.indexOf("01\r\n") + 1))).parent).toBeNull();
  });
});
