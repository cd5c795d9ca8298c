/**
 * The shop: nginx -> front -> catalog -> PostgreSQL and cart -> Redis, with its users, started in that environment and
 * counted as ready when each listens. Owned by the run that started it; a program that does not come up fails the start
 * with its last words; everything is stopped by the Cleanup it is given. A program whose package is missing fails the
 * start too, since a shop with a hole would look like a fault.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Cleanup } from "./cleanup.ts";
import { addressOf, type Environment } from "./environment.ts";
import { LoadWitness } from "./load.ts";
import { findProgram, postgresFolder, type Program } from "./packages.ts";
import { LOAD, type Role } from "./plan.ts";
import { preparePostgres, type Postgres } from "./postgres.ts";
import { Supervised, type Launch } from "./supervised.ts";

export interface Shop {
  readonly environment: Environment;
  readonly services: Readonly<Record<Role, Supervised>>;
  readonly postgres: Postgres;
  readonly users: LoadWitness;
  /** what a person opens, seen from where the users are */
  readonly url: string;
}

/** The folder of the shop's programs: beside the sources, also when this runs from the bundle in dist/. */
const programFolder = (): string => {
  const here = dirname(fileURLToPath(import.meta.url));
  const places = ["shop", "../deploy/demo/shop", "../../deploy/demo/shop"].map((place) => join(here, place));
  const found = places.find((place) => existsSync(join(place, "front.mjs")));
  if (found === undefined) throw new Error(`the shop's programs are in none of ${places.join(", ")}`);
  return found;
};

const needed = (name: Program): string => {
  const path = findProgram(name);
  if (path === null) throw new Error(`${name} is not installed`);
  return path;
};

const nginxConfig = (folder: string, listen: string, front: string): string => `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log warn;
${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 1000000;
  upstream front { server ${front}; keepalive 64; keepalive_timeout 60s; }
  server {
    listen ${listen};
    location / {
      proxy_pass http://front;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_read_timeout 4s;
      proxy_next_upstream off;
    }
  }
}
`;

export const startShop = async (options: {
  readonly environment: Environment;
  readonly cleanup: Cleanup;
  readonly tell: (text: string) => void;
  readonly signal?: AbortSignal;
  /** requests per second of all users together */
  readonly rate?: number;
}): Promise<Shop> => {
  const { environment, cleanup, tell, signal } = options;
  const { plan, folder, cgroups, network } = environment;
  const source = programFolder();
  const password = randomBytes(12).toString("hex");
  const at = (role: Role) => ({ ...plan.services[role], host: addressOf(environment, plan.services[role].name) });
  const endpoint = (role: Role): string => `${at(role).host}:${at(role).port}`;

  // the copy has the service's name, so that a shuffled name is not betrayed by a file's
  const copied = async (program: string, name: string): Promise<string> => {
    const path = join(folder, `${name}${program.slice(program.lastIndexOf("."))}`);
    await copyFile(join(source, program), path);
    return path;
  };
  const supervised = (name: string, command: readonly string[], rest: Partial<Launch>): Supervised =>
    new Supervised(
      {
        name,
        command,
        env: {},
        folder,
        cgroups: cgroups?.entrances(name) ?? [],
        namespace: network?.entrance(name) ?? null,
        user: null,
        stopSignal: "SIGTERM",
        logFile: join(folder, `${name}.log`),
        ...rest,
      },
      tell,
    );
  const own = async (role: Role, interpreter: readonly string[], program: string, env: Record<string, string>) =>
    supervised(at(role).name, [...interpreter, await copied(program, at(role).name)], {
      env: { LISTEN_HOST: at(role).host, LISTEN_PORT: String(at(role).port), ...env },
    });

  const postgresBin = postgresFolder();
  if (postgresBin === null) throw new Error("PostgreSQL is not installed");
  const postgres = await preparePostgres({
    bin: postgresBin,
    runFolder: folder,
    name: at("postgres").name,
    address: at("postgres").host,
    port: at("postgres").port,
    from: network === null ? "127.0.0.1/32" : `${network.range}.0/24`,
  });
  const nginxFolder = join(folder, `${at("nginx").name}-files`);
  await mkdir(nginxFolder);
  const nginxFile = join(nginxFolder, "nginx.conf");
  await writeFile(nginxFile, nginxConfig(nginxFolder, endpoint("nginx"), endpoint("front")));
  const redisFile = join(folder, `${at("redis").name}.conf`);
  await writeFile(
    redisFile,
    `bind ${at("redis").host}\nport ${at("redis").port}\nrequirepass ${password}\nsave ""\nappendonly no\ndir ${folder}\n`,
    { mode: 0o600 },
  );

  const services: Readonly<Record<Role, Supervised>> = {
    postgres: supervised(at("postgres").name, postgres.command, {
      user: postgres.user,
      folder: postgres.folder,
      stopSignal: "SIGINT",
    }),
    redis: supervised(at("redis").name, [needed("redis-server"), redisFile], {}),
    cart: await own("cart", [process.execPath], "cart.mjs", {
      REDIS_HOST: at("redis").host,
      REDIS_PORT: String(at("redis").port),
      REDIS_PASSWORD: password,
    }),
    catalog: await own("catalog", [needed("python3"), "-u"], "catalog.py", {
      DATABASE_HOST: at("postgres").host,
      DATABASE_PORT: String(at("postgres").port),
      DATABASE_PASSWORD: password,
    }),
    front: await own("front", [process.execPath], "front.mjs", {
      CATALOG_URL: `http://${endpoint("catalog")}`,
      CART_URL: `http://${endpoint("cart")}`,
    }),
    nginx: supervised(at("nginx").name, [needed("nginx"), "-c", nginxFile, "-e", "stderr"], {}),
  };
  const order: readonly Role[] = ["postgres", "redis", "cart", "catalog", "front", "nginx"];
  for (const role of order) {
    cleanup.add(at(role).name, () => services[role].stop());
    services[role].start();
  }
  await postgres.fill(password, signal);
  for (const role of order) await services[role].listening(at(role).port, signal);

  const users = new LoadWitness();
  const url = `http://${endpoint("nginx")}`;
  const load = supervised(LOAD, [process.execPath, await copied("load.mjs", LOAD)], {
    env: { TARGET_URL: url, RATE: String(options.rate ?? 50) },
    onLine: (line) => users.read(line),
  });
  cleanup.add(LOAD, () => load.stop());
  load.start();
  return { environment, services, postgres, users, url };
};
