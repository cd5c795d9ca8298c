/**
 * Sums and quantiles as Prometheus 3 computes them, so that both agree to the last digits. Pure.
 */

/** Neumaier's compensated sum, which Prometheus calls Kahan's: large and small summands do not lose the small ones. */
export class Sum {
  private sum = 0;
  private rest = 0;
  add(value: number): void {
    const total = this.sum + value;
    if (!Number.isFinite(total)) this.rest = 0;
    else if (Math.abs(this.sum) >= Math.abs(value)) this.rest += this.sum - total + value;
    else this.rest += value - total + this.sum;
    this.sum = total;
  }
  get value(): number {
    return Number.isFinite(this.sum) ? this.sum + this.rest : this.sum;
  }
}

/** Mean of `count` values; where their sum is too large for a number, by small steps. */
export const mean = (count: number, at: (i: number) => number): number => {
  const sum = new Sum();
  let infinite = false;
  for (let i = 0; i < count; i++) {
    const value = at(i);
    if (!Number.isFinite(value)) infinite = true;
    sum.add(value);
  }
  if (infinite || Number.isFinite(sum.value)) return sum.value / count;
  let running = 0;
  for (let i = 0; i < count; i++) running += at(i) / (i + 1) - running / (i + 1);
  return running;
};

/** Population variance by Welford's method. */
export const variance = (count: number, at: (i: number) => number): number => {
  let average = 0;
  const squares = new Sum();
  for (let i = 0; i < count; i++) {
    const value = at(i);
    const delta = value - average;
    average += delta / (i + 1);
    squares.add(delta * (value - average));
  }
  return squares.value / count;
};

/** NaN before all numbers, as Prometheus sorts. */
export const ascending = (a: number, b: number): number =>
  Number.isNaN(a) ? (Number.isNaN(b) ? 0 : -1) : Number.isNaN(b) ? 1 : a - b;

/** Between the two nearest ranks, linearly. Sorts `values` in place. */
export const quantile = (q: number, values: number[]): number => {
  if (values.length === 0 || Number.isNaN(q)) return Number.NaN;
  if (q < 0) return -Infinity;
  if (q > 1) return Infinity;
  values.sort((a, b) => (a < b ? -1 : a > b ? 1 : a === b ? 0 : ascending(a, b)));
  const rank = q * (values.length - 1);
  const lower = Math.max(0, Math.floor(rank));
  const upper = Math.min(values.length - 1, lower + 1);
  const weight = rank - Math.floor(rank);
  return (values[lower] ?? 0) * (1 - weight) + (values[upper] ?? 0) * weight;
};

/** As Go's `strconv.FormatFloat(v, 'f', -1, 64)`: never with an exponent. */
export const plainText = (value: number): string => {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  const text = Object.is(value, -0) ? "-0" : String(value);
  const match = /^(-?)(\d+)(?:\.(\d+))?e([+-]\d+)$/.exec(text);
  if (match === null) return text;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = match;
  const digits = whole + fraction;
  const point = whole.length + Number(exponent);
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  return point >= digits.length
    ? `${sign}${digits}${"0".repeat(point - digits.length)}`
    : `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
};

/** A value in Prometheus' JSON: a text, +Inf, -Inf or NaN; exponents have two digits, as Go writes them. */
export const valueText = (value: number): string => {
  if (!Number.isFinite(value) || Object.is(value, -0)) return plainText(value);
  return String(value).replace(/e([+-])(\d)$/, "e$10$2");
};
