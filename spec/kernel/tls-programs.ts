/** Programs that speak TLS for tls.test.ts, each a child that does what it is told on standard input. */
import { type ChildProcess, spawn } from "node:child_process";

/**
 * Python: `serve PORT CERT KEY` answers HTTP/1.1, 500 where the path says so; `ask PORT CA` makes as many requests on one
 * connection as a line says, a tenth of them to /fail, and prints "done"; `stream PORT CA` does so from an event loop,
 * whose TLS is kept in memory.
 */
export const PYTHON = `
import asyncio, http.client, http.server, ssl, sys
kind, port = sys.argv[1], int(sys.argv[2])
if kind == "serve":
    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        def do_GET(self):
            self.send_response(500 if self.path == "/fail" else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
        def log_message(self, *words): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
context = ssl.create_default_context(cafile=sys.argv[3])
if kind == "ask":
    link = http.client.HTTPSConnection("localhost", port, context=context)
    for line in sys.stdin:
        for i in range(int(line)):
            link.request("GET", "/fail" if i % 10 == 9 else "/")
            link.getresponse().read()
        print("done", flush=True)
async def stream():
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        for i in range(int(line)):
            writer.write(b"GET /%s HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % (b"fail" if i % 10 == 9 else b""))
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = [l for l in head.split(b"\\r\\n") if l.lower().startswith(b"content-length")]
            await reader.readexactly(int(length[0].split(b":")[1]))
        print("done", flush=True)
if kind == "stream":
    asyncio.run(stream())
`;

/** Node.js: an HTTPS server of its own, with the OpenSSL that its executable carries. */
export const NODE = `
const { readFileSync } = require("node:fs");
const [port, cert, key] = process.argv.slice(1);
require("node:https").createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (ask, reply) => {
  reply.statusCode = ask.url === "/fail" ? 500 : ask.url === "/no" ? 404 : 200;
  reply.end("ok");
}).listen(Number(port), "127.0.0.1");
process.stdin.on("end", () => process.exit()).resume();
`;

/** Go: `go run`-able HTTPS server, 500 where the path says so. */
export const GO = `package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(500)
		}
		fmt.Fprint(w, "ok")
	})
	panic(http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], nil))
}
`;

/** A child whose answers come as lines. */
export class Told {
  readonly child: ChildProcess;
  private said = "";
  private readonly waiting = new Set<() => void>();

  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env });
    const take = (chunk: Buffer): void => {
      this.said += chunk.toString();
      for (const look of this.waiting) look();
    };
    this.child.stdout?.on("data", take);
    this.child.stderr?.on("data", take);
    this.child.on("exit", () => {
      for (const look of this.waiting) look();
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Writes a text and waits until `n` lines that match have come in answer to it. */
  async tell(text: string, line: RegExp, n = 1): Promise<void> {
    this.said = "";
    this.child.stdin?.write(text);
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        const seen = this.said.split("\n").filter((one) => line.test(one)).length;
        if (seen < n && this.child.exitCode === null) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        if (seen >= n) resolve();
        else reject(new Error(`ended: ${this.said.slice(-500)}`));
      };
      const timer = setTimeout(() => {
        this.waiting.delete(look);
        reject(new Error(`no ${n} lines like ${line} of: ${this.said.slice(-500)}`));
      }, 30_000);
      this.waiting.add(look);
      look();
    });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGTERM");
    await exited;
  }
}
