/** The built `coroot`: help, mistakes and exit codes, as a person at a terminal meets them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { root } from "../../../deploy/bin/fresh.mjs";
import { coroot, ensureBuilt, freePort } from "./coroot.ts";

beforeAll(ensureBuilt, 180_000);

const commands = [
  "start",
  "server",
  "node-agent",
  "demo",
  "incidents",
  "services",
  "agents",
  "ack",
  "silence",
  "actor",
  "query",
  "logs",
  "trace",
  "version",
];

describe("help", () => {
  it("lists the commands and exit codes", () => {
    const { code, out } = coroot("--help");
    expect(code).toBe(0);
    for (const command of commands) expect(out).toMatch(new RegExp(`^  ${command} +\\w`, "m"));
    expect(out).toMatch(/4 +the port or the data folder is taken/);
  });

  it.each(commands)("of %s names its flags, with examples", (command) => {
    const { code, out, err } = coroot(command, "--help");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain(`Usage: coroot ${command}`);
    expect(out).toMatch(/Examples:\n {2}(coroot|npm)/);
    expect(coroot("help", command).out).toBe(out);
  });

  it("does not name what only the server starts", () => {
    expect(coroot("--help").out).not.toMatch(/^ {2}store /m);
  });
});

describe("version", () => {
  it("is that of package.json", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    expect(coroot("version")).toEqual({ code: 0, out: `${version}\n`, err: "" });
    expect(coroot("--version").out).toBe(`${version}\n`);
    expect(JSON.parse(coroot("version", "--json").out)).toMatchObject({ version, node: process.versions.node });
  });
});

describe("a mistake", () => {
  const mistakes: readonly (readonly [readonly string[], string, string])[] = [
    [["strat"], 'there is no command "strat"', "did you mean: coroot start?"],
    [["frobnicate"], 'there is no command "frobnicate"', "see: coroot --help"],
    [["--json"], "the first argument is a command, not --json", "see: coroot --help"],
    [["services", "--jsn"], "services has no flag --jsn", "did you mean --json?"],
    [["start", "--port"], "--port needs a value: --port N", "see: coroot start --help"],
    [["start", "--port", "http"], '--port takes a whole number, not "http"', "see: coroot start --help"],
    [["start", "--port", "70000"], "--port takes a number from 0 to 65535, not 70000", "see: coroot start --help"],
    [["start", "--port", "--data"], "--port needs a value: --port N", "see: coroot start --help"],
    [["start", "now"], 'start takes no argument "now"', "see: coroot start --help"],
    [["start", "--no-agent=1"], "--no-agent takes no value", "see: coroot start --help"],
    [
      ["node-agent", "--server", "ws://a:1,nowhere"],
      '--server takes addresses such as ws://127.0.0.1:8080/agent, separated by commas, not "nowhere"',
      "see: coroot node-agent --help",
    ],
    [["services", "--server", "nowhere"], '--server takes an address such as http://127.0.0.1:8080, not "nowhere"', ""],
    [["actor", "explode", "topology"], 'actor has no "explode"', "see: coroot actor --help"],
    [["actor", "pause"], "actor pause needs the path of an actor", "see: coroot actor --help"],
    [["actor", "pause", "a", "b"], 'actor pause takes one argument, not also "b"', "see: coroot actor --help"],
    [["actor", "trace", "x"], 'actor trace takes the number of a trace, not "x"', "see: coroot actor --help"],
    [["query", "SELECT", "1"], "query takes one text", "put it in quotes: coroot query 'SELECT 1'"],
    [["query", "SELECT {a:String}", "--param", "a"], '--param takes NAME=VALUE, not "a"', "see: coroot query --help"],
    [
      ["logs", "--since", "soon"],
      "--since takes a duration such as 30m, 6h or 2d, or a time",
      "see: coroot logs --help",
    ],
    [["trace"], "trace takes the id of one trace", "see: coroot trace --help"],
    [["demo", "--fault", "fire"], 'unknown fault "fire"; faults are ', "see: coroot demo --help"],
  ];
  it.each(mistakes)("%j is one clear line with a hint, and exit code 2", (args, message, hint) => {
    const { code, out, err } = coroot(...args);
    expect(code).toBe(2);
    expect(out).toBe("");
    const [first, second = "", ...rest] = err.trimEnd().split("\n");
    expect(first).toContain(`coroot: ${message}`);
    expect(second).toBe(hint === "" ? "" : `hint: ${hint}`);
    expect(rest).toEqual([]);
  });

  it("in the configuration names the file, the field and what was expected", () => {
    const { code, err } = coroot("start", "--config", "/nonexistent/coroot.yaml");
    expect(code).toBe(2);
    expect(err).toContain("/nonexistent/coroot.yaml");
  });

  it("of no command at all prints the help and exit code 2", () => {
    const { code, err } = coroot();
    expect(code).toBe(2);
    expect(err).toContain("Commands:");
  });
});

describe("asking a server that is not there", () => {
  it.each(["incidents", "services", "agents", "actor", "query", "logs", "trace 0af7651916cd43dd"])(
    "%s: says where it asked and how to start one",
    async (command) => {
      const port = await freePort();
      const { code, out, err } = coroot(...command.split(" "), "--server", `http://127.0.0.1:${port}`);
      expect({ code, out }).toEqual({ code: 1, out: "" });
      expect(err).toContain(`no server answers at http://127.0.0.1:${port} (ECONNREFUSED)`);
      expect(err).toContain("npm start");
    },
  );
});
