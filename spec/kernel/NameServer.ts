/**
 * Debian's dnsmasq on port 53 of a network namespace of its own, with a resolv.conf that only its clients see. What ends
 * in `.test` it answers itself: `good.test` and what ends so, `both.test` with IPv6, `alias.test` for it, and the rest is
 * not there. `.broken` it asks a server that always fails, `.dead` one that never answers; anything else it refuses.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { findProgram } from "../machine.ts";

const run = promisify(execFile);

const UPSTREAMS = `
import socket, threading
def serve(address, reply):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((address, 53))
    print("ready", flush=True)
    while True:
        q, peer = s.recvfrom(4096)
        if reply: s.sendto(q[:2] + bytes([q[2] | 0x80, 0x82]) + q[4:], peer)
threading.Thread(target=serve, args=("127.0.0.2", False), daemon=True).start()
serve("127.0.0.3", True)
`;

const untilSays = (child: ChildProcess, word: string, times: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let said = "";
    const take = (chunk: Buffer): void => {
      said += chunk.toString();
      if (said.split(word).length > times) resolve();
    };
    child.stdout?.on("data", take);
    child.stderr?.on("data", take);
    child.once("exit", () => reject(new Error(`it ended: ${said}`)));
  });

const ended = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await exited;
};

export class NameServer {
  readonly netns: number;
  readonly child: ChildProcess;
  private readonly upstreams: ChildProcess;
  private readonly folder: string;

  private constructor(child: ChildProcess, upstreams: ChildProcess, folder: string) {
    this.child = child;
    this.upstreams = upstreams;
    this.folder = folder;
    this.netns = statSync(`/proc/${child.pid ?? 0}/ns/net`).ino;
  }

  static async start(): Promise<NameServer> {
    const folder = mkdtempSync(join(tmpdir(), "coroot-dns-"));
    writeFileSync(join(folder, "resolv.conf"), "nameserver 127.0.0.1\n");
    writeFileSync(join(folder, "hosts"), "127.0.0.1 localhost\n");
    const child = spawn(
      "unshare",
      [
        "--net",
        "--mount",
        "sh",
        "-c",
        `ip link set lo up && mount --bind ${folder}/resolv.conf /etc/resolv.conf && mount --bind ${folder}/hosts /etc/hosts &&
        exec ${findProgram("dnsmasq") ?? "dnsmasq"} --keep-in-foreground --log-facility=- --conf-file=/dev/null --no-resolv --no-hosts \\
          --user=root --pid-file= --cache-size=0 --dns-forward-max=10000 --listen-address=127.0.0.1,::1 --bind-interfaces --local=/test/ \\
          --address=/good.test/192.0.2.1 --address=/good.test/2001:db8::1 --host-record=both.test,192.0.2.7,2001:db8::7 --cname=alias.test,both.test \\
          --server=/broken/127.0.0.3 --server=/dead/127.0.0.2`,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    await untilSays(child, "started", 1);
    const upstreams = spawn("nsenter", [...NameServer.inside(child), "python3", "-c", UPSTREAMS], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    await untilSays(upstreams, "ready", 2);
    return new NameServer(child, upstreams, folder);
  }

  private static inside(child: ChildProcess): readonly string[] {
    return ["--net", "--mount", "--target", String(child.pid ?? 0)];
  }

  /** More lines for the resolv.conf of programs that start from now on. */
  resolv(lines: string): void {
    writeFileSync(join(this.folder, "resolv.conf"), `nameserver 127.0.0.1\n${lines}\n`);
  }

  /** Runs a program in the namespace; its output. */
  async run(program: string, ...args: readonly string[]): Promise<string> {
    const path = program === "node" ? readlinkSync("/proc/self/exe") : program;
    return (await run("nsenter", [...NameServer.inside(this.child), path, ...args], { maxBuffer: 1 << 24 })).stdout;
  }

  /** Starts a program in the namespace. */
  spawn(program: string, ...args: readonly string[]): ChildProcess {
    return spawn("nsenter", [...NameServer.inside(this.child), program, ...args], {
      stdio: ["pipe", "pipe", "inherit"],
    });
  }

  async stop(): Promise<void> {
    await ended(this.upstreams);
    await ended(this.child);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
