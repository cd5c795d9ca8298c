/**
 * What the demo can be asked for, and the check of it before anything is started. Pure: a wrong argument gives a
 * sentence for the person who typed it. Holds nothing to stop.
 */
export const faultNames = ["redis-down", "db-lock", "cpu-hog", "errors", "oom"] as const;
export type FaultName = (typeof faultNames)[number];

export interface DemoArgs {
  /** inject this one after the warm-up */
  readonly fault?: string;
  /** run faults one after the other, each from a fresh state, and judge what the server says */
  readonly check: boolean;
  /** which faults the check runs; all five when absent */
  readonly faults?: readonly string[];
  /** random names and ports, and `errors` on the catalog */
  readonly shuffle: boolean;
  /** seconds of load before a fault; 60 when absent */
  readonly warmupSeconds?: number;
  /** one JSON object per line instead of text */
  readonly json: boolean;
  /** stop by itself that long after the load began; until Ctrl-C when absent */
  readonly seconds?: number;
  /** count incidents for that long without any fault */
  readonly quietSeconds?: number;
  /** where a Coroot server answers; one is started on this address when none does. http://127.0.0.1:8080 when absent */
  readonly server?: string;
}

export const DEFAULT_SERVER = "http://127.0.0.1:8080";
export const DEFAULT_WARMUP_SECONDS = 60;

export type DemoMode =
  | { readonly kind: "shop"; readonly fault: FaultName | null }
  | { readonly kind: "check"; readonly faults: readonly FaultName[] }
  | { readonly kind: "quiet"; readonly seconds: number };

export class BadDemoArgument extends Error {
  constructor(message: string) {
    super(message);
    this.name = "BadDemoArgument";
  }
}

export const isFaultName = (text: string): text is FaultName => faultNames.some((name) => name === text);

const faultName = (text: string): FaultName => {
  if (isFaultName(text)) return text;
  throw new BadDemoArgument(`unknown fault "${text}"; faults are ${faultNames.join(", ")}`);
};

const positive = (name: string, value: number | undefined): void => {
  if (value !== undefined && !(Number.isFinite(value) && value > 0))
    throw new BadDemoArgument(`${name} must be a number of seconds above 0, got ${value}`);
};

const serverUrl = (text: string): void => {
  if (!URL.canParse(text) || new URL(text).protocol !== "http:")
    throw new BadDemoArgument(`server must be an http:// address such as ${DEFAULT_SERVER}, got "${text}"`);
};

/** The mode asked for; throws BadDemoArgument. */
export const demoMode = (args: DemoArgs): DemoMode => {
  positive("warmup", args.warmupSeconds);
  positive("seconds", args.seconds);
  positive("quiet", args.quietSeconds);
  if (args.server !== undefined) serverUrl(args.server);
  const fault = args.fault === undefined ? null : faultName(args.fault);
  const faults = (args.faults ?? []).map(faultName);
  if (faults.length > 0 && !args.check) throw new BadDemoArgument("faults is for --check; use --fault <name> for one");
  if (args.quietSeconds !== undefined) {
    if (args.check || fault !== null) throw new BadDemoArgument("quiet runs without --check and without --fault");
    return { kind: "quiet", seconds: args.quietSeconds };
  }
  if (args.check) {
    const chosen = fault === null ? faults : [fault, ...faults];
    return { kind: "check", faults: chosen.length === 0 ? faultNames : [...new Set(chosen)] };
  }
  return { kind: "shop", fault };
};
