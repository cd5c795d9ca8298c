/**
 * /proc/PID/stat without making strings: it is read once a second for every process. Pure on bytes; owned by the process
 * table. The command may hold blanks and brackets, so fields are counted from the last closing one.
 */
import { digits } from "./Reader.ts";

export interface ProcessStat {
  ppid: number;
  kernelThread: boolean;
  zombie: boolean;
  /** user and system time in clock ticks */
  cpuTicks: number;
  threads: number;
  startTicks: number;
  rssPages: number;
  /** delay by block I/O in clock ticks (0 where the kernel does not account it) */
  ioWaitTicks: number;
  /** sum of the command's bytes: tells cheaply whether it changed */
  commHash: number;
}

export const emptyStat = (): ProcessStat => ({
  ppid: 0,
  kernelThread: false,
  zombie: false,
  cpuTicks: 0,
  threads: 0,
  startTicks: 0,
  rssPages: 0,
  ioWaitTicks: 0,
  commHash: 0,
});

const PF_KTHREAD = 0x0020_0000;
const CLOSE = 41;
const SPACE = 32;

/** Fills `into`; false when the bytes are no stat line. */
export const parseStat = (bytes: Uint8Array, length: number, into: ProcessStat): boolean => {
  let close = length - 1;
  while (close > 0 && bytes[close] !== CLOSE) close--;
  const open = bytes.indexOf(40);
  if (close <= 0 || open < 0 || open > close) return false;
  let hash = 0;
  for (let i = open + 1; i < close; i++) hash = (hash * 31 + (bytes[i] ?? 0)) >>> 0;
  into.commHash = hash;
  const state = bytes[close + 2];
  into.zombie = state === 90 || state === 88 || state === 120;
  // Field 0 is the state; each blank starts the next one.
  let field = 0;
  let user = 0;
  for (let i = close + 2; i < length; i++) {
    if (bytes[i] !== SPACE) continue;
    field++;
    const at = i + 1;
    if (field === 1) into.ppid = digits(bytes, at);
    else if (field === 6) into.kernelThread = (digits(bytes, at) & PF_KTHREAD) !== 0;
    else if (field === 11) user = digits(bytes, at);
    else if (field === 12) into.cpuTicks = user + digits(bytes, at);
    else if (field === 17) into.threads = digits(bytes, at);
    else if (field === 19) into.startTicks = digits(bytes, at);
    else if (field === 21) into.rssPages = digits(bytes, at);
    else if (field === 39) {
      into.ioWaitTicks = digits(bytes, at);
      return true;
    }
  }
  return field >= 21;
};
