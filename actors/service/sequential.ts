/**
 * The fast rule: a sequential test on the stream of good and bad requests (CUSUM of the log-likelihood ratio).
 *
 * H0: a request is bad with p0 = the larger of what the objective allows and what is usual for this service.
 * H1: with p1, twenty times that, between 20 % and 50 %.
 * Every bad request adds ln(p1/p0), every good one ln((1-p1)/(1-p0)); the sum never falls below 0. It alarms above
 * h = ln(10^6): by Wald's bound a service that sits exactly at p0 alarms less than once in 10^6 requests, a healthier one
 * more rarely still. Five bad requests in a row are enough at 99 %, so a total outage at 5 requests/s takes a second.
 * The way back is the same test turned round: good requests add, bad ones subtract, above ln(10^3) the service is back.
 */
export const ALARM = Math.log(1e6);
export const RECOVERED = Math.log(1e3);

export interface Cusum {
  readonly sum: number;
  /** server ms of the last moment the sum was 0: the estimated onset */
  readonly zeroAt: number;
}

export const quiet = (at: number): Cusum => ({ sum: 0, zeroAt: at });

export interface Rates {
  readonly p0: number;
  readonly p1: number;
}

/** `usual` is the service's own share of bad requests in its baseline, 0..1. */
export const rates = (objective: number, usual: number): Rates => {
  const p0 = Math.min(0.4, Math.max(1 - objective, 1.5 * usual, 1e-4));
  return { p0, p1: Math.max(p0 * 1.5, Math.min(0.5, Math.max(0.2, 20 * p0))) };
};

/** One window: `bad` of `total` requests; `startMs` is the window's start. */
export const observe = (state: Cusum, { p0, p1 }: Rates, total: number, bad: number, startMs: number): Cusum => {
  if (total <= 0) return state;
  const change = bad * Math.log(p1 / p0) + Math.max(0, total - bad) * Math.log((1 - p1) / (1 - p0));
  const sum = state.sum + change;
  if (sum <= 0) return { sum: 0, zeroAt: startMs };
  // A cap keeps a long outage from needing as long to be over.
  return { sum: Math.min(sum, 3 * ALARM), zeroAt: state.sum === 0 ? startMs : state.zeroAt };
};

/** The test for being back. Bad requests push it to 0 at once, good ones raise it. */
export const observeRecovery = (sum: number, { p0, p1 }: Rates, total: number, bad: number): number => {
  if (total <= 0) return sum;
  const change = -bad * Math.log(p1 / p0) - Math.max(0, total - bad) * Math.log((1 - p1) / (1 - p0));
  return Math.max(0, Math.min(2 * RECOVERED, sum + change));
};
