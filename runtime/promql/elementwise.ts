/**
 * Functions from value to value: mathematics, and parts of a date in UTC. Pure.
 */
const DAY_MS = 86_400_000;
const date = (seconds: number): Date => new Date(Math.floor(seconds) * 1000);
const daysIn = (year: number, month: number): number => new Date(Date.UTC(year, month + 1, 0)).getUTCDate();

/** NaN stays NaN, also where the date is out of reach. */
const part =
  (read: (at: Date) => number) =>
  (seconds: number): number =>
    read(date(seconds));

export const DATE_FUNCTIONS: Readonly<Record<string, (seconds: number) => number>> = {
  minute: part((at) => at.getUTCMinutes()),
  hour: part((at) => at.getUTCHours()),
  month: part((at) => at.getUTCMonth() + 1),
  year: part((at) => at.getUTCFullYear()),
  day_of_week: part((at) => at.getUTCDay()),
  day_of_month: part((at) => at.getUTCDate()),
  day_of_year: part((at) => Math.floor((at.getTime() - Date.UTC(at.getUTCFullYear(), 0, 1)) / DAY_MS) + 1),
  days_in_month: part((at) => daysIn(at.getUTCFullYear(), at.getUTCMonth())),
};

export const MATH_FUNCTIONS: Readonly<Record<string, (value: number) => number>> = {
  abs: Math.abs,
  ceil: Math.ceil,
  floor: Math.floor,
  exp: Math.exp,
  ln: Math.log,
  log2: Math.log2,
  log10: Math.log10,
  sqrt: Math.sqrt,
  sgn: Math.sign,
  deg: (value) => (value * 180) / Math.PI,
  rad: (value) => (value * Math.PI) / 180,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  asinh: Math.asinh,
  acosh: Math.acosh,
  atanh: Math.atanh,
};

/** To the nearest multiple, halves up, as Prometheus does it. */
export const roundTo = (value: number, nearest: number): number => {
  const inverse = 1 / nearest;
  return Math.floor(value * inverse + 0.5) / inverse;
};
