/**
 * The users of the demo shop: workers that each wait for their answer and then for their next turn, over keep-alive
 * connections, about RATE requests per second in all. It is the check's independent witness: one JSON line per
 * request that failed (5xx, broken, no answer in 5 s) or became slow (no answer after 500 ms, written at that
 * moment), and one per second with the counts. End of standard input stops it.
 */
import http from "node:http";

const TARGET = process.env.TARGET_URL;
const RATE = Number(process.env.RATE ?? 50);
const WORKERS = 48;
const SLOW_MS = 500;
const TIMEOUT_MS = 5000;
const agent = new http.Agent({ keepAlive: true, maxSockets: WORKERS, maxFreeSockets: WORKERS });

process.stdin.resume().on("end", () => process.exit(0));

const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const number = (limit) => 1 + Math.floor(Math.random() * limit);
const emptySecond = () => ({ sent: 0, ok: 0, failed: 0, slow: 0, latencies: [] });
let second = emptySecond();

/** The routes and how often each is wanted; ROUTES leaves out those that a missing part could not answer. */
const wishes = [
  { route: "products", weight: 35, method: "GET", path: () => `/products/${number(200)}` },
  { route: "cart", weight: 25, method: "GET", path: () => `/cart/u${number(500)}` },
  { route: "cart", weight: 15, method: "POST", path: () => `/cart/u${number(500)}` },
  { route: "home", weight: 25, method: "GET", path: () => `/home/u${number(500)}` },
].filter(({ route }) => (process.env.ROUTES ?? route).split(",").includes(route));
const weights = wishes.reduce((sum, { weight }) => sum + weight, 0);

const nextRequest = () => {
  let dice = Math.random() * weights;
  const wish = wishes.find(({ weight }) => (dice -= weight) < 0) ?? wishes[0];
  return { ...wish, path: wish.path() };
};

/** Resolves with null when the answer was good, else with what was wrong. */
const send = ({ method, path }) =>
  new Promise((resolve) => {
    const request = http.request(`${TARGET}${path}`, { agent, method, signal: AbortSignal.timeout(TIMEOUT_MS) });
    request.once("error", (error) => resolve(error.code ?? error.name));
    request.once("response", (response) => {
      response.resume();
      response.once("error", (error) => resolve(error.code ?? error.name));
      response.once("end", () => resolve(response.statusCode >= 500 ? String(response.statusCode) : null));
    });
    request.end();
  });

const visit = async () => {
  const wish = nextRequest();
  const startedAt = Date.now();
  second.sent += 1;
  const late = setTimeout(() => {
    second.slow += 1;
    write({ type: "slow", at: Date.now(), route: wish.route });
  }, SLOW_MS);
  const problem = await send(wish);
  clearTimeout(late);
  const at = Date.now();
  second.latencies.push(at - startedAt);
  if (problem === null) second.ok += 1;
  else {
    second.failed += 1;
    write({ type: "failed", at, route: wish.route, problem });
  }
};

/** Each worker visits once per cycle at a random point of it, so that arrivals of all look independent. */
const work = async () => {
  const cycleMs = (1000 * WORKERS) / RATE;
  await pause(Math.random() * cycleMs);
  for (;;) {
    const startedAt = Date.now();
    await visit();
    await pause(Math.max(0, cycleMs * (0.5 + Math.random()) - (Date.now() - startedAt)));
  }
};

setInterval(() => {
  const { sent, ok, failed, slow } = second;
  const latencies = second.latencies.toSorted((a, b) => a - b);
  const quantile = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? null;
  second = emptySecond();
  write({ type: "second", at: Date.now(), sent, ok, failed, slow, p50: quantile(0.5), p95: quantile(0.95) });
}, 1000);

await Promise.all(Array.from({ length: WORKERS }, work));
