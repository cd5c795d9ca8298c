/**
 * The checks of one agent: does it keep up, does it lose anything, are its tables full, what did the kernel refuse, is its
 * clock right, what passes by unread, what does it cost. Pure, over what the link knows of the agent and what the agent
 * last said of itself; a figure that it does not tell is "unknown", never "ok".
 */
import type { HealthStatus } from "../../schemas/service.ts";
import { formatBytes, formatDuration, formatMs, formatPercent } from "../../schemas/units.ts";
import { LOST, USED } from "../../schemas/wire/observe.ts";
import type { AgentInspection, AgentView } from "../../schemas/wire/page.ts";

/** Frames come each second; stock agents have a state of their own. */
const QUIET_MS = 10_000;
const LATE_MS = 1_000;
const WAITING_WINDOWS = 10;
const NEARLY_FULL = 0.9;
const CLOCK_OFF_MS = 1_000;
const UNREAD_SHARE = 0.2;
/** Some bytes a second are nobody's concern. */
const UNREAD_BYTES = 10_000;
const MOST_CORES = 0.5;
const MOST_BYTES = 512 * 1024 * 1024;

/** Features whose absence says something about the machine, not about what is missed. */
const OPTIONAL_FEATURES: ReadonlySet<string> = new Set(["docker"]);

type Verdict = Omit<AgentInspection, "id" | "title">;
const ok = (message: string): Verdict => ({ status: "ok", message });
const bad = (message: string, status: HealthStatus = "warning"): Verdict => ({ status, message });
const unknown: Verdict = { status: "unknown", message: "it does not say" };

const listed = (self: AgentView["self"], prefix: string): readonly (readonly [name: string, value: number])[] =>
  Object.entries(self)
    .filter(([name, value]) => name.startsWith(prefix) && value > 0)
    .map(([name, value]) => [name.slice(prefix.length), value] as const)
    .toSorted(([, a], [, b]) => b - a);

const words = (name: string): string => name.replace(/[A-Z]/g, (capital) => ` ${capital.toLowerCase()}`);

const keepsUp = ({ state, lastFrameAt, self }: AgentView, now: number): Verdict => {
  const silentMs = now - lastFrameAt;
  if (state !== "connected") return bad(`disconnected, last heard ${formatDuration(silentMs)} ago`, "critical");
  const { loopLateMs, windowsWaiting, ticksSkipped } = self;
  if (loopLateMs === undefined) return unknown;
  const reasons = [
    silentMs > QUIET_MS ? `nothing heard for ${formatDuration(silentMs)}` : "",
    loopLateMs > LATE_MS ? `its loop ran ${formatMs(loopLateMs)} late in the last minute` : "",
    (windowsWaiting ?? 0) > WAITING_WINDOWS ? `${windowsWaiting} seconds wait to be sent` : "",
    (ticksSkipped ?? 0) > 0 ? `the probe left out ${ticksSkipped} ticks in the last minute; no count is lost` : "",
  ].filter((reason) => reason !== "");
  return reasons.length > 0 ? bad(reasons.join("; ")) : ok("each second in time");
};

const loses = ({ self, losses }: AgentView): Verdict => {
  if (self["loopLateMs"] === undefined && Object.keys(losses).length === 0) return unknown;
  const now = listed(self, LOST).map(([name, n]) => `${n} ${words(name)}`);
  const seen = Object.entries(losses).filter(([, n]) => n > 0);
  if (now.length > 0) return bad(`in the last minute: ${now.join(", ")}`);
  // Counted by the server since it knows the agent.
  if (seen.length > 0) return bad(seen.map(([what, n]) => `${n} ${what}`).join(", "));
  return ok("nothing is lost");
};

const fills = ({ self }: AgentView): Verdict => {
  const used = listed(self, USED);
  const [most] = used;
  if (self["loopLateMs"] === undefined) return unknown;
  const full = used.filter(([, share]) => share >= NEARLY_FULL);
  if (full.length > 0)
    return bad(full.map(([name, share]) => `${words(name)} ${formatPercent(Math.min(1, share))} full`).join(", "));
  return ok(most === undefined ? "all empty" : `${words(most[0])} ${formatPercent(most[1])}, all else less`);
};

const hooks = ({ capabilities }: AgentView): Verdict => {
  if (capabilities.length === 0) return unknown;
  const off = capabilities.filter(({ feature, state }) => state !== "on" && !OPTIONAL_FEATURES.has(feature));
  const refused = off.filter(({ state }) => state === "off");
  if (refused.length > 0)
    return bad(`${refused.map(({ feature }) => feature).join(", ")} off (${refused[0]?.reason ?? ""})`);
  const parts = off.filter(({ feature }) => feature !== "probe");
  return parts.length > 0
    ? bad(parts.map(({ feature, reason }) => `${feature}: ${reason}`).join("; "), "info")
    : ok("all that it needs");
};

const clock = ({ state, clockOffsetMs }: AgentView): Verdict => {
  if (state !== "connected") return unknown;
  const far = Math.abs(clockOffsetMs) > CLOCK_OFF_MS;
  const text = `${formatMs(Math.abs(clockOffsetMs))} ${clockOffsetMs < 0 ? "behind" : "ahead of"} the server's`;
  return far ? bad(`${text}; only what is recorded is dated by it`) : ok(text);
};

const unread = ({ self }: AgentView): Verdict => {
  const { bytesPerSecond, unknownBytesPerSecond = 0, tlsBlindBytesPerSecond = 0 } = self;
  if (bytesPerSecond === undefined) return unknown;
  if (bytesPerSecond === 0) return ok("nothing passes");
  const parts = [
    [tlsBlindBytesPerSecond, "within TLS that is not read"],
    [unknownBytesPerSecond, "of a protocol that is not known"],
  ] as const;
  const text = parts
    .filter(([bytes]) => bytes > 0)
    .map(
      ([bytes, what]) =>
        `${formatPercent(Math.min(1, bytes / bytesPerSecond))} of ${formatBytes(bytesPerSecond)}/s ${what}`,
    );
  const sum = unknownBytesPerSecond + tlsBlindBytesPerSecond;
  if (text.length === 0) return ok("all bytes are of known protocols");
  return sum > UNREAD_BYTES && sum / bytesPerSecond > UNREAD_SHARE ? bad(text.join(", "), "info") : ok(text.join(", "));
};

const cost = ({ self }: AgentView): Verdict => {
  const { cpuCores, memoryBytes } = self;
  if (cpuCores === undefined || memoryBytes === undefined) return unknown;
  const cores = cpuCores + (self["probeCpuCores"] ?? 0) + (self["programsCores"] ?? 0);
  const bytes = memoryBytes + (self["probeMemoryBytes"] ?? 0) + (self["kernelBytes"] ?? 0);
  const text = `${cores.toFixed(3)} cores, ${formatBytes(bytes)}`;
  return cores > MOST_CORES || bytes > MOST_BYTES ? bad(text) : ok(text);
};

export const inspectAgent = (agent: AgentView, now: number): readonly AgentInspection[] => [
  { id: "behind", title: "Keeps up", ...keepsUp(agent, now) },
  { id: "losing", title: "Loses nothing", ...loses(agent) },
  { id: "full", title: "Room in its tables", ...fills(agent) },
  { id: "hooks", title: "What it may see", ...hooks(agent) },
  { id: "clock", title: "Its clock", ...clock(agent) },
  { id: "unread", title: "Reads what passes", ...unread(agent) },
  { id: "cost", title: "What it costs", ...cost(agent) },
];
