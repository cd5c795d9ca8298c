/** What is different between a state now and a minute ago: leaves by their path. Pure. */

export interface Change {
  readonly path: string;
  /** undefined: it was not there */
  readonly before: unknown;
  /** undefined: it is not there any more */
  readonly after: unknown;
}

/** More differences than this say only that everything is different. */
export const MOST_CHANGES = 200;

const isBranch = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

export const changesOf = (before: unknown, after: unknown): readonly Change[] => {
  const found: Change[] = [];
  const walk = (path: string, a: unknown, b: unknown): void => {
    if (found.length >= MOST_CHANGES) return;
    if (isBranch(a) && isBranch(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)]))
        walk(path === "" ? key : `${path}.${key}`, a[key], b[key]);
      return;
    }
    if (JSON.stringify(a) !== JSON.stringify(b)) found.push({ path, before: a, after: b });
  };
  walk("", before, after);
  return found;
};
