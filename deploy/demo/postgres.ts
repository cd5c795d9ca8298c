/**
 * The shop's own PostgreSQL: a fresh cluster in the demo's folder, the products in it, and administrators' sessions over
 * its unix socket (a folder that only its user can enter). Runs as user postgres, else nobody, when the demo is root,
 * since PostgreSQL refuses root. Owned by the shop; a failing step fails with the program's words.
 */
import { chown, mkdir, readFile, writeFile } from "node:fs/promises";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { until } from "./clock.ts";
import { run } from "./command.ts";

export interface User {
  readonly uid: number;
  readonly gid: number;
}

export interface Postgres {
  readonly command: readonly string[];
  readonly folder: string;
  readonly user: User | null;
  /** Waits until it answers, then creates the shop's role, database and products. */
  readonly fill: (password: string, signal?: AbortSignal) => Promise<void>;
  /** Takes the lock that every read of the products needs; gives what lets go of it. */
  readonly lockProducts: () => Promise<() => Promise<void>>;
}

const userOf = (passwd: string, name: string): User | null => {
  const [, , uid, gid] =
    passwd
      .split("\n")
      .find((line) => line.startsWith(`${name}:`))
      ?.split(":") ?? [];
  return uid === undefined || gid === undefined ? null : { uid: Number(uid), gid: Number(gid) };
};

export const unprivilegedUser = async (): Promise<User | null> => {
  if (process.getuid?.() !== 0) return null;
  const passwd = await readFile("/etc/passwd", "utf8");
  return userOf(passwd, "postgres") ?? userOf(passwd, "nobody") ?? { uid: 65_534, gid: 65_534 };
};

export const dropTo = (user: User | null): readonly string[] =>
  user === null ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups"];

const settings = (address: string, port: number, socket: string): string => `
listen_addresses = '${address}'
port = ${port}
unix_socket_directories = '${socket}'
max_connections = 50
shared_buffers = 32MB
synchronous_commit = off
password_encryption = 'scram-sha-256'
log_lock_waits = on
`;

const access = (from: string): string => `
local all  all  trust
host  shop shop ${from} password
`;

const products = (password: string): string => `
CREATE ROLE shop LOGIN PASSWORD '${password}';
CREATE DATABASE shop OWNER shop;
\\connect shop shop
CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price int NOT NULL, views bigint NOT NULL DEFAULT 0)
  WITH (fillfactor = 50);
INSERT INTO products (id, name, price)
  SELECT n, 'product number ' || n, 100 + n * 7 % 900 FROM generate_series(1, 200) AS n;
ANALYZE products;
`;

export const preparePostgres = async (where: {
  readonly bin: string;
  readonly runFolder: string;
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** who may connect, as a range */
  readonly from: string;
}): Promise<Postgres> => {
  const user = await unprivilegedUser();
  const folder = join(where.runFolder, `${where.name}-data`);
  const data = join(folder, "data");
  await mkdir(folder, { mode: 0o700 });
  if (user !== null) await chown(folder, user.uid, user.gid);
  const initdb = [join(where.bin, "initdb"), "--pgdata", data, "--username", "admin"];
  const wrapper = user === null ? [] : ["setpriv", ...dropTo(user)];
  await run([...wrapper, ...initdb, "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"], {
    cwd: folder,
    timeoutMs: 60_000,
  });
  await writeFile(join(data, "postgresql.auto.conf"), settings(where.address, where.port, folder));
  await writeFile(join(data, "pg_hba.conf"), access(where.from));
  const psql = (database: string): readonly string[] => [
    join(where.bin, "psql"),
    "--no-psqlrc",
    "--quiet",
    "--tuples-only",
    "--set=ON_ERROR_STOP=1",
    `--host=${folder}`,
    `--port=${where.port}`,
    "--username=admin",
    database,
  ];
  return {
    command: [join(where.bin, "postgres"), "-D", data],
    folder,
    user,
    fill: async (password, signal) => {
      let refusal: unknown = null;
      const ready = async (): Promise<true | undefined> => {
        try {
          await run([...psql("postgres"), "--command", "SELECT 1"], { timeoutMs: 2_000 });
          return true;
        } catch (error) {
          refusal = error;
          return undefined;
        }
      };
      await until("PostgreSQL answers", 20_000, ready, { signal }).catch((error: unknown) => {
        throw signal?.aborted === true ? error : refusal;
      });
      await run(psql("postgres"), { input: products(password) });
    },
    lockProducts: () => holdLock(psql("shop")),
  };
};

/** A person's open session: begins, takes the lock, and forgets to commit. */
const holdLock = async (psql: readonly string[]): Promise<() => Promise<void>> => {
  const [program = "", ...rest] = psql;
  const child = spawn("setpriv", ["--pdeathsig=KILL", program, ...rest], { stdio: ["pipe", "pipe", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  child.stdin.on("error", (error) => (errors += error.message));
  child.once("error", (error) => (errors += error.message));
  child.stdin.write("BEGIN;\nLOCK TABLE products IN ACCESS EXCLUSIVE MODE;\n\\echo locked\n");
  const letGo = async (): Promise<void> => {
    child.stdin.end("ROLLBACK;\n");
    await exited;
  };
  try {
    await until("the lock on products is held", 10_000, () => {
      if (child.exitCode !== null) throw new Error(`the locking session ended: ${errors.trim()}`);
      return output.includes("locked") ? true : undefined;
    });
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
  return letGo;
};
