/**
 * What a process is, from its executable and command line: interpreters are looked through to the script, module or jar
 * they run. Pure; owned by the process table. Only the derived name leaves the agent: arguments, which may hold secrets,
 * are never kept. A command line that makes no sense gives the executable's own name; nothing here fails.
 */
export interface Program {
  readonly name: string;
  /** kind of software by executable ("postgres", "nodejs", …) or "" */
  readonly type: string;
  /** shells and tools: no service of their own unless they listen or talk */
  readonly tool: boolean;
}

export interface ProgramInput {
  /** target of /proc/PID/exe, "" when unreadable */
  readonly exe: string;
  readonly argv: readonly string[];
  readonly comm: string;
  /** working directory, to name relative scripts by their folder; "" when unknown */
  readonly cwd: string;
}

const TYPES: readonly (readonly [RegExp, string])[] = [
  [/^(postgres|postmaster)$/, "postgres"],
  [/^(redis|valkey)-(server|sentinel)$/, "redis"],
  [/^nginx$/, "nginx"],
  [/^(mysqld|mariadbd)$/, "mysql"],
  [/^mongo[ds]$/, "mongodb"],
  [/^memcached$/, "memcached"],
  [/^(beam\.smp|erl)$/, "erlang"],
  [/^nats-server$/, "nats"],
  [/^etcd$/, "etcd"],
  [/^envoy$/, "envoy"],
  [/^haproxy$/, "haproxy"],
  [/^(httpd|apache2)$/, "httpd"],
  [/^clickhouse/, "clickhouse"],
  [/^pgbouncer$/, "pgbouncer"],
  [/^(node|nodejs)$/, "nodejs"],
  [/^(deno|bun)$/, "nodejs"],
  [/^(python|pypy)/, "python"],
  [/^java$/, "jvm"],
  [/^ruby/, "ruby"],
  [/^php/, "php"],
  [/^dotnet$/, "dotnet"],
];

const SHELLS = new Set(["sh", "bash", "dash", "zsh", "ash", "ksh", "fish", "busybox"]);
const TOOLS = new Set(
  "sudo su ssh sshd scp tmux screen less more vi vim nano top htop watch tail cat grep find sleep make git man login agetty npm npx env timeout nohup setsid script strace gdb perf tee xargs apt apt-get dpkg".split(
    " ",
  ),
);
/** executables that many programs share and that tell which one they are only by their comm */
const MULTICALL = new Set(["busybox", "toybox", "coreutils", "redis-check-rdb", "redis-check-aof", "valkey-check-rdb"]);
/** names that say nothing: the folder above is asked */
const PLAIN_SCRIPTS = new Set(
  "index main app server start run service worker entrypoint cli __main__ wsgi asgi manage bootstrap".split(" "),
);
const PLAIN_FOLDERS = new Set(
  "src dist build lib bin out app usr opt srv home root tmp var local current release releases . .. share target code server".split(
    " ",
  ),
);
/** application servers: what they serve is the name */
const LAUNCHERS = new Set("gunicorn uvicorn hypercorn daphne celery flask waitress-serve uwsgi".split(" "));

const NODE_VALUES = new Set(
  "-r --require --import --loader --experimental-loader -C --conditions --env-file --title --icu-data-dir --openssl-config --redirect-warnings --trace-event-categories".split(
    " ",
  ),
);
const PYTHON_VALUES = new Set(["-W", "-X", "--check-hash-based-pycs"]);
const JAVA_VALUES = new Set(
  "-cp -classpath --class-path -p --module-path --add-modules --add-opens --add-exports --add-reads -d --describe-module".split(
    " ",
  ),
);
const RUBY_VALUES = new Set(["-I", "-r", "-C", "-E"]);
const PHP_VALUES = new Set(["-c", "-d", "-S", "-t", "-z"]);

const baseOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
const clean = (name: string): string => name.replace(/[^\w.@:+-]/g, "_").slice(0, 80);

/** The first argument that is no option, with its place; `values` are options that take the next argument. */
const firstPlain = (argv: readonly string[], values: ReadonlySet<string>): number => {
  for (let i = 1; i < argv.length; i++) {
    const argument = argv[i] ?? "";
    if (argument === "--") return i + 1 < argv.length ? i + 1 : -1;
    if (!argument.startsWith("-")) return argument === "" ? -1 : i;
    if (values.has(argument)) i++;
  }
  return -1;
};

/** A script's meaningful name: its base without extension, or the nearest folder that says something. */
export const scriptName = (script: string, cwd: string): string => {
  const absolute = script.startsWith("/") || cwd === "" ? script : `${cwd}/${script}`;
  const parts = absolute.split("/").filter((part) => part !== "" && part !== ".");
  const file = parts.pop() ?? "";
  const base = file.replace(/\.(mjs|cjs|js|mts|cts|ts|tsx|py|pyc|pyw|rb|php|pl|sh|dll|exe)$/i, "");
  if (!PLAIN_SCRIPTS.has(base.toLowerCase())) return clean(base);
  while (parts.length > 0) {
    const folder = parts.pop() ?? "";
    if (folder === "..") parts.pop();
    else if (!PLAIN_FOLDERS.has(folder.toLowerCase()) && !/^v?\d+(\.\d+)*$/.test(folder)) return clean(folder);
  }
  return clean(base);
};

const served = (launcher: string, rest: readonly string[]): string => {
  for (const argument of rest) {
    if (!/^[A-Za-z_][\w.]*(:[\w.()]+)?$/.test(argument)) continue;
    const parts = (argument.split(":")[0] ?? "").split(".");
    const telling = parts.findLast((part) => !PLAIN_SCRIPTS.has(part) && part !== "py" && part !== "application");
    if (telling !== undefined && (argument.includes(":") || argument.includes("."))) return clean(telling);
  }
  return launcher;
};

const nodeName = (input: ProgramInput): string => {
  const at = firstPlain(input.argv, NODE_VALUES);
  const evaluated = input.argv.findIndex((argument) => /^(-e|-p|--eval|--print)$/.test(argument));
  if (at < 0 || (evaluated > 0 && evaluated < at)) return "node";
  const name = scriptName(input.argv[at] ?? "", input.cwd);
  const command = input.argv[at + 1] ?? "";
  // Our own executable holds several services; its subcommand tells them apart.
  return name === "coroot" && /^[a-z][a-z-]*$/.test(command) ? `coroot-${command}` : name === "npm-cli" ? "npm" : name;
};

const pythonName = (input: ProgramInput): string => {
  // gunicorn and others write what they serve into their title: "gunicorn: master [shop.wsgi:app]"
  const title = /^(\w+): (?:master|worker) \[([\w.]+)/.exec(input.argv[0] ?? "");
  if (title?.[1] !== undefined && title[2] !== undefined) return served(title[1], [`${title[2]}:app`]);
  for (let i = 1; i < input.argv.length; i++) {
    const argument = input.argv[i] ?? "";
    if (argument === "-c") return "python";
    const module = argument === "-m" ? input.argv[i + 1] : /^-m(.+)/.exec(argument)?.[1];
    if (module !== undefined)
      return LAUNCHERS.has(module) ? served(module, input.argv.slice(i + 2)) : clean(module.replace(/\.__main__$/, ""));
    if (PYTHON_VALUES.has(argument)) i++;
    else if (!argument.startsWith("-") && argument !== "") {
      const name = scriptName(argument, input.cwd);
      return LAUNCHERS.has(name) ? served(name, input.argv.slice(i + 1)) : name;
    }
  }
  return "python";
};

const javaName = (input: ProgramInput): string => {
  for (let i = 1; i < input.argv.length; i++) {
    const argument = input.argv[i] ?? "";
    if (argument === "-jar") {
      const jar = baseOf(input.argv[i + 1] ?? "").replace(/\.(jar|war)$/, "");
      return clean(jar.replace(/[-_.]v?\d+(\.\d+)*([-.](SNAPSHOT|RELEASE|FINAL|GA|all|exec|boot))*$/i, "")) || "java";
    }
    if (argument === "-m" || argument === "--module") {
      const module = input.argv[i + 1] ?? "";
      return clean(baseOf(module).split(".").at(-1) ?? "java") || "java";
    }
    if (JAVA_VALUES.has(argument)) i++;
    else if (!argument.startsWith("-") && !argument.startsWith("@") && argument !== "")
      return clean(argument.split(".").at(-1) ?? "") || "java";
  }
  return "java";
};

const byScript = (input: ProgramInput, values: ReadonlySet<string>, fallback: string): string => {
  const at = firstPlain(input.argv, values);
  return at < 0 ? fallback : scriptName(input.argv[at] ?? "", input.cwd) || fallback;
};

export const programOf = (input: ProgramInput): Program => {
  const exe = baseOf(input.exe.replace(/ \(deleted\)$/, ""));
  const unnamed = exe === "" || /^\d+$/.test(exe) || input.exe.startsWith("/memfd:");
  const called = unnamed || MULTICALL.has(exe) ? input.comm : exe;
  const type = TYPES.find(([pattern]) => pattern.test(called))?.[1] ?? "";
  if (/^(node|nodejs|deno|bun)$/.test(called)) {
    const name = nodeName(input);
    return { name, type, tool: name === "npm" || name === "npx-cli" };
  }
  if (type === "python") return { name: pythonName(input), type, tool: false };
  if (type === "jvm") return { name: javaName(input), type, tool: false };
  if (type === "ruby") return { name: byScript(input, RUBY_VALUES, "ruby"), type, tool: false };
  if (called.startsWith("perl")) return { name: byScript(input, RUBY_VALUES, "perl"), type, tool: false };
  if (type === "php" && !called.startsWith("php-fpm"))
    return { name: byScript(input, PHP_VALUES, "php"), type, tool: false };
  if (type === "dotnet") return { name: byScript(input, new Set(), "dotnet"), type, tool: false };
  if (SHELLS.has(called)) {
    const inline = input.argv.some((argument) => /^-[a-z]*c$/.test(argument));
    const name = inline ? called : byScript(input, new Set(["-o", "+o"]), called);
    return { name, type, tool: name === called };
  }
  return { name: clean(called) || "unknown", type, tool: TOOLS.has(called) };
};
