import { assert, constantFrom, array, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { errorText, FrontError, fromEngine } from "../../../runtime/store/front/errors.ts";
import { presentedKey } from "../../../runtime/store/front/request.ts";
import {
  kindOf,
  literal,
  oneStatement,
  parseInsert,
  placeholders,
  plainType,
} from "../../../runtime/store/front/sql.ts";

const basic = (pair: string) => ({ authorization: `Basic ${Buffer.from(pair).toString("base64")}` });

describe("statements of the store's front", () => {
  it("name a type without its dictionaries", () => {
    expect(plainType("UInt64")).toBe("UInt64");
    expect(plainType("LowCardinality(String)")).toBe("String");
    expect(plainType("LowCardinality(Nullable(FixedString(4)))")).toBe("Nullable(FixedString(4))");
    expect(plainType("Array(Map(LowCardinality(String), Array(LowCardinality(String))))")).toBe(
      "Array(Map(String, Array(String)))",
    );
  });

  it("finds the one statement whatever quotes and comments hold", () => {
    expect(oneStatement("SELECT ';' ; -- done;\n")).toBe("SELECT ';' ");
    expect(oneStatement("SELECT `a;b`, \"c;d\", 'it\\';' /* ; */ -- ;\n, $x$ ; ' $x$;")).not.toContain(";;");
    for (const two of ["SELECT 1; SELECT 2", "SELECT ''; DROP TABLE t", "SELECT 1 -- \n; x", "SELECT 1;;;a"])
      expect(() => oneStatement(two)).toThrow("Multi-statements are not allowed");
    for (const open of ["SELECT 'a", "SELECT /* a", "SELECT $a$ b", 'SELECT "'])
      expect(() => oneStatement(open)).toThrow("never closed");
  });

  it("keeps any text inside its literal", () => {
    const pieces = constantFrom("'", "\\", ";", "--", "/*", "\n", "$$", "a", "`", '"');
    assert(
      property(array(pieces), string(), (parts, rest) => {
        const statement = `SELECT ${literal(parts.join("") + rest)}`;
        expect(oneStatement(`${statement};`)).toBe(statement);
      }),
    );
  });

  it("tells reads from writes and refuses what would stay on a pooled session", () => {
    expect(
      ["(SELECT 1)", "/* x */ with a AS (SELECT 1) SELECT 1", "SHOW TABLES", "explain SELECT 1"].map(kindOf),
    ).toEqual(Array.from({ length: 4 }, () => "read"));
    expect(["INSERT INTO t VALUES (1)", "-- SELECT\nDROP TABLE t", "alter table t"].map(kindOf)).toEqual(
      Array.from({ length: 3 }, () => "write"),
    );
    for (const refused of ["SET a = 1", "use x", "SYSTEM SHUTDOWN"]) expect(() => kindOf(refused)).toThrow(FrontError);
    expect(() => kindOf("  -- nothing\n")).toThrow("Empty query");
  });

  it("reads the head of an insert whose rows follow", () => {
    expect(parseInsert("INSERT INTO `coroot`.`events` (ts, `text`) FORMAT JSONEachRow\n")).toEqual({
      table: "coroot.events",
      columns: ["ts", "text"],
      format: "JSONEachRow",
    });
    expect(parseInsert("insert into t format RowBinary")).toEqual({ table: "t", columns: null, format: "RowBinary" });
    expect(parseInsert("INSERT INTO t SELECT 1")).toBeNull();
    expect(parseInsert("INSERT INTO t VALUES (1)")).toBeNull();
    expect([...placeholders("SELECT {a:String}, { b : Array(UInt8) }")]).toEqual(["a", "b"]);
  });

  it("keeps code and type of the engine's errors in the form that the client reads", () => {
    const nested =
      "Code: 26. DB::Exception: Code: 26. DB::Exception: Cannot parse: (at row 1)\n: data. (CANNOT_PARSE_QUOTED_STRING) (version 26.7.2.1). (CANNOT_PARSE_QUOTED_STRING)";
    const error = fromEngine(new Error(nested));
    expect(error).toMatchObject({
      code: 26,
      type: "CANNOT_PARSE_QUOTED_STRING",
      message: "Cannot parse: (at row 1)\n: data",
    });
    expect(errorText(error)).toBe(
      "Code: 26. DB::Exception: Cannot parse: (at row 1)\n: data. (CANNOT_PARSE_QUOTED_STRING)\n",
    );
    expect(fromEngine("strange")).toMatchObject({ code: 1002, type: "UNKNOWN_EXCEPTION", message: "strange" });
  });

  it("finds the key in either header", () => {
    expect(presentedKey(basic("default:a:b"))).toBe("a:b");
    expect(presentedKey({ "x-clickhouse-key": "k" })).toBe("k");
    expect([presentedKey({}), presentedKey(basic("none")), presentedKey({ authorization: "Bearer x" })]).toEqual([
      null,
      null,
      null,
    ]);
  });
});
