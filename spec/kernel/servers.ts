/**
 * Real servers on free loopback ports, in a temporary directory of their own: nginx, Redis, PostgreSQL, MariaDB,
 * Memcached, ZooKeeper, NATS, RabbitMQ, ClickHouse. Each is a child that `stop` ends and whose files it removes.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram, postgresBin } from "../machine.ts";

export interface Running {
  readonly port: number;
  readonly folder: string;
  readonly child: ChildProcess;
  readonly stop: () => Promise<void>;
}

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const listening = async (port: number, child: ChildProcess, what: string, ms = 15_000): Promise<void> => {
  const until = performance.now() + ms;
  while (performance.now() < until) {
    if (child.exitCode !== null) throw new Error(`${what} ended with code ${child.exitCode}`);
    if (await answers(port)) return;
    await pause(20);
  }
  throw new Error(`${what} does not listen on ${port}`);
};

/** Stops a process until SIGCONT. The signal is taken by one thread: others may go on until that one has its turn. */
export const halt = async (pid: number): Promise<void> => {
  process.kill(pid, "SIGSTOP");
  const running = (): readonly string[] =>
    readdirSync(`/proc/${pid}/task`).filter((task) => {
      const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, "utf8");
      return stat[stat.lastIndexOf(")") + 2] !== "T";
    });
  for (const until = performance.now() + 5_000; running().length > 0; await pause(2))
    if (performance.now() > until) throw new Error(`process ${pid} does not stop`);
};

const folderOf = (name: string): string => mkdtempSync(join(tmpdir(), `coroot-${name}-`));

const stopper =
  (child: ChildProcess, folder: string, signal: NodeJS.Signals): (() => Promise<void>) =>
  async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      await exited;
    }
    rmSync(folder, { recursive: true, force: true });
  };

/** A CA and a certificate of it for localhost and 127.0.0.1, in a folder of their own. */
export const makeCertificate = (): {
  readonly ca: string;
  readonly caFile: string;
  readonly cert: string;
  readonly key: string;
  readonly remove: () => void;
} => {
  const folder = folderOf("tls");
  chmodSync(folder, 0o755);
  const openssl = (text: string): void =>
    void execFileSync("openssl", text.split(/\s+/), { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  writeFileSync(join(folder, "names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  openssl(
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt",
  );
  openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key -out request");
  openssl("x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out crt");
  return {
    ca: readFileSync(join(folder, "ca.crt"), "utf8"),
    caFile: join(folder, "ca.crt"),
    cert: join(folder, "crt"),
    key: join(folder, "key"),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
};

/** `listen`: what its port is for besides, such as "http2". PORT in `server` stands for the port. */
export const startNginx = async (server = `location / { return 200 "hello\\n"; }`, listen = ""): Promise<Running> => {
  const folder = folderOf("nginx");
  const port = await freePort();
  writeFileSync(
    join(folder, "nginx.conf"),
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log ${folder}/error.log warn; user root;
events { worker_connections 512; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b;
fastcgi_temp_path ${folder}/c; uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e; sendfile on; root ${folder};
server { listen 127.0.0.1:${port} backlog=512 ${listen}; ${server.replaceAll("PORT", String(port))} } }\n`,
  );
  const child = spawn(findProgram("nginx") ?? "nginx", ["-c", join(folder, "nginx.conf"), "-p", folder], {
    stdio: "ignore",
  });
  await listening(port, child, "nginx");
  return { port, folder, child, stop: stopper(child, folder, "SIGQUIT") };
};

/** A proxy before a server of HTTP/2, that takes HTTP/1 and lets clients change to HTTP/2. */
export const startNghttpx = async (backend: number): Promise<Running> => {
  const folder = folderOf("nghttpx");
  const port = await freePort();
  const child = spawn(
    findProgram("nghttpx") ?? "nghttpx",
    [
      `--frontend=127.0.0.1,${port};no-tls`,
      `--backend=127.0.0.1,${backend};;proto=h2`,
      "--workers=1",
      "--single-process",
      `--errorlog-file=${folder}/log`,
      "--conf=/dev/null",
    ],
    { stdio: "ignore" },
  );
  await listening(port, child, "nghttpx");
  return { port, folder, child, stop: stopper(child, folder, "SIGTERM") };
};

/** With a certificate it speaks TLS only. */
export const startRedis = async (tls?: { caFile: string; cert: string; key: string }): Promise<Running> => {
  const folder = folderOf("redis");
  const port = await freePort();
  const child = spawn(
    findProgram("redis-server") ?? "redis-server",
    [
      ...(tls === undefined
        ? ["--port", String(port)]
        : `--port 0 --tls-port ${port} --tls-cert-file ${tls.cert} --tls-key-file ${tls.key} --tls-ca-cert-file ${tls.caFile} --tls-auth-clients no`.split(
            " ",
          )),
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--appendonly",
      "no",
      "--dir",
      folder,
    ],
    { stdio: "ignore" },
  );
  await listening(port, child, "redis-server");
  return { port, folder, child, stop: stopper(child, folder, "SIGTERM") };
};

export const startMemcached = async (): Promise<Running> => {
  const folder = folderOf("memcached");
  const port = await freePort();
  const child = spawn(
    findProgram("memcached") ?? "memcached",
    ["-u", "root", "-p", String(port), "-U", "0", "-l", "127.0.0.1", "-m", "64", "-t", "2"],
    { stdio: "ignore" },
  );
  await listening(port, child, "memcached");
  return { port, folder, child, stop: stopper(child, folder, "SIGTERM") };
};

/** A publisher of `app.>`; what it publishes elsewhere is refused. */
export const startNats = async (): Promise<Running> => {
  const folder = folderOf("nats");
  const port = await freePort();
  const file = join(folder, "conf");
  writeFileSync(
    file,
    `host: 127.0.0.1, port: ${port}, no_auth_user: app
authorization { users: [{ user: app, password: app, permissions: { publish: [app.>, _INBOX.>], subscribe: ">" } }] }\n`,
  );
  const child = spawn(findProgram("nats-server") ?? "nats-server", ["-c", file], { stdio: "ignore" });
  await listening(port, child, "nats-server");
  return { port, folder, child, stop: stopper(child, folder, "SIGTERM") };
};

/** As a node of its own: its port mapper is a child too, and both listen on loopback only. `pid` is the server's. */
export const startRabbit = async (): Promise<Running & { readonly pid: number }> => {
  const folder = folderOf("rabbitmq");
  const [port, mapper, nodes] = [await freePort(), await freePort(), await freePort()];
  writeFileSync(join(folder, "conf.conf"), `listeners.tcp.1 = 127.0.0.1:${port}\n`);
  writeFileSync(join(folder, "plugins"), "[].\n");
  const epmd = spawn("epmd", ["-port", String(mapper), "-address", "127.0.0.1"], { stdio: "ignore" });
  await listening(mapper, epmd, "epmd");
  const child = spawn("/usr/lib/rabbitmq/bin/rabbitmq-server", [], {
    stdio: "ignore",
    env: {
      PATH: process.env["PATH"],
      HOME: folder,
      ERL_EPMD_PORT: String(mapper),
      ERL_EPMD_ADDRESS: "127.0.0.1",
      RABBITMQ_NODENAME: `spec${port}@localhost`,
      RABBITMQ_DIST_PORT: String(nodes),
      RABBITMQ_MNESIA_BASE: join(folder, "db"),
      RABBITMQ_LOG_BASE: folder,
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "plugins"),
      RABBITMQ_CONFIG_FILE: join(folder, "conf"),
      RABBITMQ_CONF_ENV_FILE: "/dev/null",
      RABBITMQ_PID_FILE: join(folder, "pid"),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
        "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
    },
  });
  await listening(port, child, "rabbitmq-server", 45_000);
  const pid = Number(readFileSync(join(folder, "pid"), "utf8"));
  const stop = async (): Promise<void> => {
    const exited = new Promise((resolve) => child.once("exit", resolve));
    process.kill(pid, "SIGKILL");
    await exited;
    await stopper(epmd, folder, "SIGKILL")();
  };
  return { port, folder, child, stop, pid };
};

export const startClickHouse = async (): Promise<Running> => {
  const folder = folderOf("clickhouse");
  const port = await freePort();
  const paths = ["path", "tmp_path", "user_files_path", "format_schema_path"]
    .map((name) => `<${name}>${folder}/${name}/</${name}>`)
    .join("");
  writeFileSync(
    join(folder, "config.xml"),
    `<yandex><logger><level>none</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>
<tcp_port>${port}</tcp_port>${paths}<mark_cache_size>1000000</mark_cache_size><users_config>${folder}/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database><timezone>UTC</timezone></yandex>\n`,
  );
  writeFileSync(
    join(folder, "users.xml"),
    `<yandex><profiles><default><max_threads>1</max_threads></default></profiles><users><default><password/>
<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
<quotas><default/></quotas></yandex>\n`,
  );
  const child = spawn(
    findProgram("clickhouse-server") ?? "clickhouse-server",
    [`--config-file=${join(folder, "config.xml")}`],
    { stdio: "ignore", cwd: folder },
  );
  await listening(port, child, "clickhouse-server");
  return { port, folder, child, stop: stopper(child, folder, "SIGKILL") };
};

/** What a server says to a word until it closes the connection. */
const says = (port: number, word: string): Promise<string> =>
  new Promise((resolve) => {
    let said = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(word));
    socket.on("data", (chunk: Buffer) => (said += chunk.toString()));
    socket.once("error", () => socket.destroy()).once("close", () => resolve(said));
  });

/** Debian's ZooKeeper by its jars: the package's own script wants a configuration in /etc. */
export const startZookeeper = async (): Promise<Running> => {
  const folder = folderOf("zookeeper");
  const port = await freePort();
  const jars = ["zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-nop", "netty-all", "metrics-core", "snappy-java"];
  writeFileSync(
    join(folder, "zoo.cfg"),
    `tickTime=2000\ndataDir=${folder}/data\nclientPort=${port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n`,
  );
  const child = spawn(
    findProgram("java") ?? "java",
    [
      "-Xmx96m",
      "-XX:+UseSerialGC",
      "-Dzookeeper.admin.enableServer=false",
      "-Dzookeeper.forceSync=no",
      "-cp",
      jars.map((jar) => `/usr/share/java/${jar}.jar`).join(":"),
      "org.apache.zookeeper.server.ZooKeeperServerMain",
      join(folder, "zoo.cfg"),
    ],
    { stdio: "ignore" },
  );
  await listening(port, child, "zookeeper", 40_000);
  // it listens before it serves
  const until = performance.now() + 40_000;
  while (!(await says(port, "srvr")).includes("Zookeeper version")) {
    if (performance.now() > until) throw new Error("zookeeper does not serve");
    await pause(50);
  }
  return { port, folder, child, stop: stopper(child, folder, "SIGTERM") };
};

/** MariaDB without accounts: any user may do anything. Files may be loaded from clients. */
export const startMariadb = async (more: readonly string[] = []): Promise<Running> => {
  const folder = folderOf("mariadb");
  const port = await freePort();
  const made = spawnSync(
    findProgram("mariadb-install-db") ?? "mariadb-install-db",
    ["--no-defaults", `--datadir=${folder}/data`, "--user=root", "--skip-test-db", "--innodb-flush-method=nosync"],
    { encoding: "utf8" },
  );
  if (made.status !== 0) throw new Error(`mariadb-install-db: ${made.stdout}${made.stderr}`);
  const child = spawn(
    findProgram("mariadbd") ?? "mariadbd",
    `--no-defaults --datadir=${folder}/data --user=root --port=${port} --bind-address=127.0.0.1 --socket=${folder}/socket
     --skip-grant-tables --local-infile=1 --innodb-flush-method=nosync --innodb-buffer-pool-size=16M
     --innodb-flush-log-at-trx-commit=0 --skip-log-bin --max-allowed-packet=64M`
      .split(/\s+/)
      .concat(more),
    { stdio: "ignore" },
  );
  await listening(port, child, "mariadbd");
  return { port, folder, child, stop: stopper(child, folder, "SIGTERM") };
};

const idOf = (user: string): number => Number(execFileSync("id", ["-u", user], { encoding: "utf8" }));

/** PostgreSQL refuses to run as root: it runs as the user of its Debian package. */
export const startPostgres = async (
  prepare: (data: string, uid: number) => readonly string[] = () => [],
): Promise<Running & { readonly run: (sql: string) => string }> => {
  const bin = postgresBin() ?? "";
  const folder = folderOf("postgres");
  const port = await freePort();
  const uid = idOf("postgres");
  const data = join(folder, "data");
  chmodSync(folder, 0o755);
  mkdirSync(data, { mode: 0o700 });
  chownSync(data, uid, uid);
  const made = spawnSync(join(bin, "initdb"), ["-D", data, "-A", "trust", "-U", "postgres", "-N", "--locale=C"], {
    uid,
    encoding: "utf8",
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  const child = spawn(
    join(bin, "postgres"),
    [
      ...`-D ${data} -p ${port} -h 127.0.0.1 -c unix_socket_directories= -c fsync=off -c autovacuum=off`.split(" "),
      "-c",
      "shared_buffers=16MB",
      ...prepare(data, uid),
    ],
    { uid, stdio: "ignore" },
  );
  await listening(port, child, "postgres");
  const run = (sql: string): string =>
    execFileSync("psql", ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres", "-AtqX", "-c", sql], {
      encoding: "utf8",
      env: { ...process.env, PGSSLMODE: "disable" },
      stdio: ["ignore", "pipe", "pipe"],
    });
  const until = performance.now() + 15_000;
  for (;;) {
    try {
      run("select 1");
      break;
    } catch (error) {
      if (performance.now() > until) throw error;
      await pause(50);
    }
  }
  return { port, folder, child, stop: stopper(child, folder, "SIGINT"), run };
};
