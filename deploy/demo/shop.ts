/**
 * The shop: nginx -> front -> catalog -> PostgreSQL and cart -> Redis, with its users, started in that environment and
 * counted as ready when each listens. Owned by the run that started it; a program that does not come up fails the start
 * with its last words; everything is stopped by the Cleanup it is given. A part whose program is missing is left out,
 * with the requests that would need it: a shop with a hole would look like a fault.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Cleanup } from "./cleanup.ts";
import { addressOf, type Environment } from "./environment.ts";
import { LoadWitness } from "./load.ts";
import { findProgram, missingPrograms, postgresFolder, type Program } from "./packages.ts";
import { LOAD, rolesWithout, type Role } from "./plan.ts";
import { preparePostgres, type Postgres } from "./postgres.ts";
import { Supervised, type Launch } from "./supervised.ts";

export interface Shop {
  readonly environment: Environment;
  /** those that run; a part is absent when its program is missing */
  readonly services: ReadonlyMap<Role, Supervised>;
  readonly postgres: Postgres | null;
  readonly users: LoadWitness;
  /** what a person opens, seen from where the users are */
  readonly url: string;
}

export const serviceOf = (shop: Shop, role: Role): Supervised => {
  const service = shop.services.get(role);
  if (service === undefined) throw new Error(`${role} is off: its program is not installed`);
  return service;
};

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

  const running = rolesWithout(missingPrograms());
  const routes = [
    ...(running.includes("catalog") ? ["products"] : []),
    ...(running.includes("cart") ? ["cart"] : []),
    ...(running.includes("catalog") && running.includes("cart") ? ["home"] : []),
  ];
  if (routes.length === 0) throw new Error("neither Redis nor PostgreSQL and Python are installed: no shop is left");

  const postgresBin = running.includes("postgres") ? postgresFolder() : null;
  const postgres =
    postgresBin === null
      ? null
      : await preparePostgres({
          bin: postgresBin,
          runFolder: folder,
          name: at("postgres").name,
          address: at("postgres").host,
          port: at("postgres").port,
          from: network === null ? "127.0.0.1/32" : `${network.range}.0/24`,
        });

  const makers: Readonly<Record<Role, () => Promise<Supervised>>> = {
    postgres: async () => {
      if (postgres === null) throw new Error("PostgreSQL is not installed");
      const { command, user, folder: home } = postgres;
      return supervised(at("postgres").name, command, { user, folder: home, stopSignal: "SIGINT" });
    },
    redis: async () => {
      const file = join(folder, `${at("redis").name}.conf`);
      const listen = `bind ${at("redis").host}\nport ${at("redis").port}\nrequirepass ${password}\n`;
      await writeFile(file, `${listen}save ""\nappendonly no\ndir ${folder}\n`, { mode: 0o600 });
      return supervised(at("redis").name, [needed("redis-server"), file], {});
    },
    cart: () =>
      own("cart", [process.execPath], "cart.mjs", {
        REDIS_HOST: at("redis").host,
        REDIS_PORT: String(at("redis").port),
        REDIS_PASSWORD: password,
      }),
    catalog: () =>
      own("catalog", [needed("python3"), "-u"], "catalog.py", {
        DATABASE_HOST: at("postgres").host,
        DATABASE_PORT: String(at("postgres").port),
        DATABASE_PASSWORD: password,
      }),
    front: () =>
      own("front", [process.execPath], "front.mjs", {
        CATALOG_URL: `http://${endpoint("catalog")}`,
        CART_URL: `http://${endpoint("cart")}`,
      }),
    nginx: async () => {
      const home = join(folder, `${at("nginx").name}-files`);
      await mkdir(home);
      const file = join(home, "nginx.conf");
      await writeFile(file, nginxConfig(home, endpoint("nginx"), endpoint("front")));
      return supervised(at("nginx").name, [needed("nginx"), "-c", file, "-e", "stderr"], {});
    },
  };
  const services = new Map<Role, Supervised>();
  const order = (["postgres", "redis", "cart", "catalog", "front", "nginx"] as const).filter((role) =>
    running.includes(role),
  );
  for (const role of order) {
    const service = await makers[role]();
    cleanup.add(at(role).name, () => service.stop());
    service.start();
    services.set(role, service);
  }
  await postgres?.fill(password, signal);
  for (const [role, service] of services) await service.listening(at(role).port, signal);

  const users = new LoadWitness();
  const url = `http://${endpoint(running.includes("nginx") ? "nginx" : "front")}`;
  const load = supervised(LOAD, [process.execPath, await copied("load.mjs", LOAD)], {
    env: { TARGET_URL: url, RATE: String(options.rate ?? 50), ROUTES: routes.join(",") },
    onLine: (line) => users.read(line),
  });
  cleanup.add(LOAD, () => load.stop());
  load.start();
  return { environment, services, postgres, users, url };
};
