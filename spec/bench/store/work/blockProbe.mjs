// @ts-check
/**
 * Loaded into a server under measurement (`node --import`, COROOT_BLOCKS names a file): how much CPU time of the main thread
 * each turn of the event loop takes, which is as long as anybody else has to wait for it. Each second one line: its
 * longest turn and the number of turns, µs. The hook is an immediate without a reference: it runs once a turn and keeps no
 * loop from sleeping. CPU time is the kernel's, so other processes of the machine do not count.
 */
import { appendFileSync, openSync, readSync } from "node:fs";

const file = process.env["COROOT_BLOCKS"];
if (file !== undefined) {
  const stat = openSync(`/proc/self/task/${process.pid}/schedstat`, "r");
  const text = Buffer.alloc(64);
  const cpuNs = () => {
    readSync(stat, text, 0, 64, 0);
    let value = 0;
    for (let i = 0; i < 20; i++) {
      const digit = (text[i] ?? 0) - 48;
      if (digit < 0) break;
      value = value * 10 + digit;
    }
    return value;
  };
  let last = cpuNs();
  let longest = 0;
  let turns = 0;
  let due = performance.now() + 1_000;
  const turn = () => {
    const now = cpuNs();
    longest = Math.max(longest, now - last);
    turns++;
    if (performance.now() >= due) {
      appendFileSync(file, `${JSON.stringify({ at: Date.now(), longestUs: Math.round(longest / 1e3), turns })}\n`);
      longest = turns = 0;
      due = performance.now() + 1_000;
    }
    last = cpuNs();
    setImmediate(turn).unref();
  };
  setImmediate(turn).unref();
}
