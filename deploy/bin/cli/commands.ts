/**
 * Every subcommand of `coroot`, with its flags and help. What a command runs is loaded only when it is called, so that
 * `start` loads no demo and `--help` loads no server. Read with node:util's parser: the command line then costs nothing
 * at start (Effect's own command line package loads a third of a second of code) and every message is ours.
 */
import { CommandError, type Command, EXIT, type Flag } from "./command.ts";

const text = (value: string, help: string): Flag => ({ kind: "text", value, help });
const whole = (value: string, help: string): Flag => ({ kind: "number", value, help });
const toggle = (help: string): Flag => ({ kind: "switch", value: "", help });

const dataFlag = text(
  "DIR",
  "data folder (default: $COROOT_DATA, /var/lib/coroot as root, else ~/.local/share/coroot)",
);
const serverFlags = {
  host: text("ADDRESS", "address to listen on (default: $COROOT_HOST, else 127.0.0.1)"),
  port: whole("N", "port of page, API and agents (default: $COROOT_PORT, else 8080; 0: any free one)"),
  data: dataFlag,
  config: text("FILE", "YAML configuration (default: $COROOT_CONFIG, else built-in settings)"),
  cluster: text("NAME", "name of this set of machines (default: $COROOT_CLUSTER, else default)"),
} as const;
const askFlags = {
  server: text("URL", "a running server (default: $COROOT_SERVER, else http://127.0.0.1:8080)"),
  json: toggle("one JSON object per line instead of a table"),
} as const;

const start: Command = {
  name: "start",
  summary: "run the server and a node agent for this machine, until Ctrl-C",
  flags: { ...serverFlags, "no-agent": toggle("run the server alone, do not observe this machine") },
  examples: ["coroot start", "coroot start --port 9090 --data /tmp/coroot", "npm start -- --port 9090"],
  run: async (values) => (await import("./start.ts")).start(values),
};

const server: Command = {
  name: "server",
  summary: "run the server: page, API, ingestion and the embedded store",
  flags: serverFlags,
  examples: ["coroot server --port 9090 --data /var/lib/coroot", "coroot server --config /etc/coroot.yaml"],
  run: async (values) => (await import("./start.ts")).server(values),
};

const nodeAgent: Command = {
  name: "node-agent",
  summary: "observe this machine and report to a server",
  flags: {
    server: text(
      "URL[,URL…]",
      "the server, such as ws://HOST:8080/agent, or its replicas (default: from the configuration, else this machine)",
    ),
    "key-file": text("FILE", "file that holds the agents' key (default: agent.key in the data folder)"),
    data: text("DIR", "folder of the agent's spool (default: agent in the data folder)"),
    node: text("NAME", "name of this node (default: the host name)"),
    metrics: text(
      "HOST:PORT",
      "serve the agent's /metrics there, without a key (default: from the configuration, else nowhere)",
    ),
    cluster: serverFlags.cluster,
    config: serverFlags.config,
  },
  examples: [
    "coroot node-agent --server ws://10.0.0.5:8080/agent --key-file /etc/coroot/agent.key",
    "coroot node-agent --server ws://10.0.0.5:8080,ws://10.0.0.6:8080",
  ],
  run: async (values) => {
    const servers = values
      .text("server")
      ?.split(",")
      .map((one) => one.trim());
    for (const address of servers ?? []) {
      const url = URL.parse(address);
      if (url === null || !["ws:", "wss:", "http:", "https:"].includes(url.protocol))
        throw new CommandError(
          EXIT.usage,
          `--server takes addresses such as ws://127.0.0.1:8080/agent, separated by commas, not "${address}"`,
          "see: coroot node-agent --help",
        );
    }
    return (await import("./agent.ts")).nodeAgent(values, servers);
  },
};

const store: Command = {
  name: "store",
  summary: "run the embedded store (started by the server)",
  internal: true,
  flags: {
    data: dataFlag,
    port: whole("N", "loopback port (default: any free one)"),
    memory: whole("MIB", "memory cap"),
  },
  examples: ["coroot store --data /var/lib/coroot/store"],
  run: async (values) => {
    const { runStore } = await import("../store.ts");
    const data = values.text("data");
    if (data === undefined) throw new CommandError(EXIT.usage, "store needs --data DIR", "see: coroot store --help");
    const port = values.number("port");
    const memoryMiB = values.number("memory");
    return runStore({
      data,
      ...(port === undefined ? {} : { port }),
      ...(memoryMiB === undefined ? {} : { memoryMiB }),
    });
  },
};

const demo: Command = {
  name: "demo",
  summary: "run a small shop under load, break it, and see what the server says",
  flags: {
    fault: text("NAME", "inject one fault after the warm-up: redis-down, db-lock, cpu-hog, errors, oom"),
    check: toggle("run the faults one after the other and judge what the server says"),
    faults: text("NAMES", "which faults --check runs, separated by commas (default: all)"),
    shuffle: toggle("random names and ports, so that nothing can be learnt from them"),
    warmup: whole("SECONDS", "load before a fault (default 60)"),
    seconds: whole("SECONDS", "stop by itself that long after the load began (default: at Ctrl-C)"),
    quiet: whole("SECONDS", "no fault: count the incidents that open during that time"),
    server: text("URL", "a running server (default http://127.0.0.1:8080; one is started when none answers)"),
    json: toggle("one JSON object per line instead of text"),
  },
  examples: ["npm run demo", "npm run demo -- --fault db-lock", "npm run demo -- --check --faults oom,errors"],
  run: async (values) => (await import("./demo.ts")).demo(values),
};

const incidents: Command = {
  name: "incidents",
  summary: "list the open incidents and their causes",
  flags: { ...askFlags, all: toggle("also resolved ones and blips") },
  examples: ["coroot incidents", "coroot incidents --all --json"],
  run: async (values) => (await import("./lists.ts")).incidents(values),
};

const services: Command = {
  name: "services",
  summary: "list the observed services with their traffic and status",
  flags: askFlags,
  examples: ["coroot services", "coroot services --json --server http://127.0.0.1:9090"],
  run: async (values) => (await import("./lists.ts")).services(values),
};

const agents: Command = {
  name: "agents",
  summary: "list the agents, and which features are off",
  flags: askFlags,
  examples: ["coroot agents", "coroot agents --json"],
  run: async (values) => (await import("./lists.ts")).agents(values),
};

const ackCommand: Command = {
  name: "ack",
  summary: "say that somebody has an incident in hand: only its end is alerted then",
  operands: "<incident>",
  flags: {
    server: askFlags.server,
    note: text("TEXT", "for the timeline"),
    undo: toggle("take the acknowledgement back"),
  },
  examples: ["coroot ack t0k3x81a2b --note 'rolling back'", "coroot ack t0k3x81a2b --undo"],
  run: async (values) => (await import("./decide.ts")).ack(values),
};

const silenceCommand: Command = {
  name: "silence",
  summary: "keep the alerts of services back for a while",
  operands: "[list | add <service or incident> | remove <id>]",
  flags: {
    ...askFlags,
    minutes: whole("N", "how long, at most 43200 (with add)"),
    reason: text("TEXT", "why, for whoever wonders (with add)"),
  },
  examples: [
    "coroot silence",
    "coroot silence add 'default/shop/*' --minutes 60 --reason 'load test'",
    "coroot silence remove 1f0c2a9b",
  ],
  run: async (values) => (await import("./decide.ts")).silence(values),
};

const actorCommand: Command = {
  name: "actor",
  summary: "look into the server's actors, act on one, or replay a recording",
  operands:
    "[list | show | trace | dead-letters | pause | resume | drain | restart | dump | audit | replay] [argument]",
  about: [
    "list                     every actor of all replicas",
    "show <path>              one actor: its figures, its state, its last messages",
    "trace <number>           the way of one message through the actors",
    "dead-letters             messages that nobody handled, and why",
    "pause|resume <path>      hold its messages, let it go on      (admin key)",
    "drain <path>             let it handle what waits, then end    (admin key)",
    "restart <path>           from its last snapshot                (admin key)",
    "dump <path>              everything about it as JSON           (admin key)",
    "audit                    who did what                          (admin key)",
    "replay <file>            a recording, offline, to the same states",
  ],
  flags: {
    ...askFlags,
    kind: text("KIND", "only actors of this kind (list)"),
    "admin-key": text("FILE", "the admin key (default: admin.key in the data folder)"),
    data: dataFlag,
    config: serverFlags.config,
    until: text("TIME", "replay no further than this"),
    effects: toggle("one JSON line for each thing that the actor wanted done (replay)"),
  },
  examples: [
    "coroot actor list --kind service",
    "coroot actor restart incident-desk",
    "coroot actor replay /var/lib/coroot/recordings/incident-desk-1700000000000.rec --effects",
  ],
  run: async (values) => (await import("./actor.ts")).actor(values),
};

const queryCommand: Command = {
  name: "query",
  summary: "read what is kept, by SQL; without a query: what tables there are",
  operands: "['SELECT …']",
  about: ["ClickHouse's SQL, read-only, over the tables of Coroot. Values of {name:Type} places are given by --param."],
  flags: {
    ...askFlags,
    param: text("NAME=VALUE[,NAME=VALUE…]", "values of the places in the query"),
    rows: whole("N", "at most so many rows (default 1000, at most 10000)"),
  },
  examples: [
    "coroot query",
    "coroot query 'SELECT service, sum(total) AS requests FROM sli_minutes GROUP BY service ORDER BY requests DESC'",
    "coroot query 'SELECT * FROM events WHERE service = {s:String} ORDER BY ts DESC' --param s=default/shop/Deployment/cart",
  ],
  run: async (values) => (await import("./query.ts")).query(values),
};

const logsCommand: Command = {
  name: "logs",
  summary: "show log lines: by words, service, severity, attributes, trace or pattern",
  operands: "['words \"a phrase\" -without']",
  about: [
    "Words are found whole, phrases and words with other characters than letters and digits anywhere, * stands for any text.",
    "Capitals do not matter. The newest lines are shown, the last one last.",
  ],
  flags: {
    ...askFlags,
    service: text("NAME[,NAME…]", "only lines of these services"),
    severity: text("LEVEL", "at least trace, debug, info, warning, error or fatal"),
    attr: text("KEY=VALUE[,KEY!=VALUE…]", "attributes of the line or its resource, such as k8s.pod.name=cart-0"),
    since: text("TIME", "from when on: a duration such as 30m, or a time (default 1h)"),
    until: text("TIME", "up to when (default: now)"),
    trace: text("ID", "only lines of this trace"),
    pattern: text("NUMBER", "only lines of this pattern"),
    limit: whole("N", "at most so many lines (default 100) or patterns (default 50)"),
    patterns: toggle("lines that differ only in numbers, ids and the like as one, with how many there are"),
  },
  examples: [
    "coroot logs --service cart --severity error",
    "coroot logs 'timeout \"connection refused\" -healthz' --since 6h",
    "coroot logs --patterns --severity warning --since 1d",
    "coroot logs --attr http.response.status_code=500,deployment.environment!=test --json",
  ],
  run: async (values) => (await import("./logs.ts")).logs(values),
};

const traceCommand: Command = {
  name: "trace",
  summary: "show one trace as a waterfall: who called whom, when, and where the time went",
  operands: "<id>",
  flags: askFlags,
  examples: ["coroot trace 0af7651916cd43dd8448eb211c80319c", "coroot trace 0af7651916cd43dd8448eb211c80319c --json"],
  run: async (values) => (await import("./trace.ts")).trace(values),
};

const endpointsCommand: Command = {
  name: "endpoints",
  summary: "show what a service's requests are to: rate, failures and latency, estimated from sampled requests",
  operands: "<service>",
  flags: {
    ...askFlags,
    since: text("TIME", "from when on: a duration such as 30m, or a time (default 1h)"),
    until: text("TIME", "up to when (default: now)"),
    limit: whole("N", "at most so many endpoints (default 50)"),
  },
  examples: ["coroot endpoints cart", "coroot endpoints cart --since 10m --json"],
  run: async (values) => (await import("./endpoints.ts")).endpoints(values),
};

const versionCommand: Command = {
  name: "version",
  summary: "print the version",
  flags: { json: toggle("as a JSON object, with the Node.js version and platform") },
  examples: ["coroot version", "coroot version --json"],
  run: async (values) => {
    const { version } = await import("../version.ts");
    const about = { version, node: process.versions.node, platform: `${process.platform}-${process.arch}` };
    process.stdout.write(values.on("json") ? `${JSON.stringify(about)}\n` : `${version}\n`);
    return EXIT.ok;
  },
};

export const commands: readonly Command[] = [
  start,
  server,
  nodeAgent,
  store,
  demo,
  incidents,
  services,
  agents,
  ackCommand,
  silenceCommand,
  actorCommand,
  queryCommand,
  logsCommand,
  traceCommand,
  endpointsCommand,
  versionCommand,
];
