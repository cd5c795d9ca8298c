/**
 * probe.latency: the kernel's histogram at the client's end against the client's own clock, which it reads just before it
 * sends and just after it has received. Three of a hundred requests are held back by the server for 20 ms.
 */
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { promisify } from "node:util";
import { bucketOf, quantileMs } from "../../../schemas/wire/histogram.ts";
import { ROLE } from "../../../schemas/wire/observe.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { median, whereAble } from "../path/probe.ts";
import { startProbe } from "./hooks.ts";

const HELD_MS = 20;
const CLIENT = String.raw`
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
n = int(sys.argv[2])
took = []
for i in range(n):
    ask = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"held" if i % 100 in (10, 40, 70) else b"")
    began = time.perf_counter_ns()
    s.send(ask)
    s.recv(4096)
    took.append(time.perf_counter_ns() - began)
took.sort()
print(took[n // 2], took[n * 99 // 100])
`;

const measure = async ({ long, log }: MeasureContext): Promise<Measured> => {
  const server = createServer((ask, reply) => {
    if (ask.url === "/held") setTimeout(() => reply.end("ok"), HELD_MS);
    else reply.end("ok");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  try {
    const worst: number[] = [];
    const lines: string[] = [];
    for (let round = 0; round < (long ? 15 : 5); round++) {
      const bed = await startProbe("sockets");
      try {
        const { stdout } = await promisify(execFile)("python3", ["-c", CLIENT, String(port), "4000"]);
        await bed.settled();
        const own = stdout
          .trim()
          .split(" ")
          .map((ns) => Number(ns) / 1e6);
        const histogram = bed.find({ role: ROLE.client, port })[0]?.histograms.get("http.ok");
        const said = [0.5, 0.99].map((q) => (histogram === undefined ? null : quantileMs(histogram, q)));
        const apart = said.map((ms, i) => (ms === null ? Number.NaN : Math.abs(bucketOf(ms) - bucketOf(own[i] ?? 0))));
        worst.push(Math.max(...apart));
        lines.push(own.map((ms, i) => `${ms.toFixed(3)} / ${said[i]?.toFixed(3) ?? "?"} ms`).join(" and "));
        log(`${lines.at(-1) ?? ""}: ${apart.join(" and ")} buckets apart`);
      } finally {
        await bed.stop();
      }
    }
    return { value: median(worst), detail: `client's clock / kernel at p50 and p99: ${lines.join("; ")}` };
  } finally {
    server.close();
  }
};

export const figures: readonly Figure[] = [
  {
    id: "probe.latency",
    figure: "buckets between the kernel's and the client's p50 or p99, whichever is more, median of rounds",
    unit: "buckets",
    bar: "<= 1",
    holds: (value) => value <= 1,
    measure: whereAble(["bpf", "python"], measure),
  },
];
