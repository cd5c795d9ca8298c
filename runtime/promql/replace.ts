/**
 * label_replace and label_join. The pattern itself is matched by the source (RE2, which cannot run away on a hostile
 * text); here is what becomes of the groups. Pure; throws QueryError.
 */
import { changed, merged, type GridSeries } from "./grid.ts";
import { execution } from "./QueryError.ts";
import type { Work } from "./work.ts";

const LABEL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export const checkLabel = (name: string, where: string): void => {
  if (!LABEL_NAME.test(name)) throw execution(`invalid label name ${JSON.stringify(name)} in ${where}`);
};

/** Pattern as Prometheus anchors it. */
export const anchored = (pattern: string): string => `^(?s:${pattern})$`;

/** Names of a pattern's groups by number; group 0 is the whole. */
export const groupNames = (pattern: string): readonly string[] => {
  const names = [""];
  let inClass = false;
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i];
    if (c === "\\") {
      if (pattern[i + 1] === "Q") {
        const end = pattern.indexOf("\\E", i);
        i = end < 0 ? pattern.length : end + 1;
      } else i++;
    } else if (inClass) {
      if (c === "]") inClass = false;
    } else if (c === "[") {
      inClass = true;
      if (pattern[i + 1] === "^") i++;
      if (pattern[i + 1] === "]") i++;
    } else if (c === "(") {
      if (pattern[i + 1] !== "?") names.push("");
      else {
        const name = /^\(\?P?<(\w+)>/.exec(pattern.slice(i, i + 200))?.[1];
        if (name !== undefined) names.push(name);
      }
    }
  }
  return names;
};

/** `$1`, `${1}`, `$name` and `$$` of a replacement, as Go's Expand reads them; a group that is not there is empty. */
export const expand = (template: string, groups: readonly string[], names: readonly string[]): string =>
  template.replace(/\$(?:(\$)|\{(\w+)\}|(\w+))/g, (_, dollar?: string, braced?: string, bare?: string) => {
    if (dollar !== undefined) return "$";
    const name = braced ?? bare ?? "";
    const index = /^\d+$/.test(name) ? Number(name) : names.lastIndexOf(name);
    return index < 0 ? "" : (groups[index] ?? "");
  });

const withLabel = (series: GridSeries, name: string, value: string): GridSeries => {
  const labels = new Map(series.labels);
  if (value === "") labels.delete(name);
  else labels.set(name, value);
  return { ...series, labels };
};

export interface Replacement {
  readonly target: string;
  readonly template: string;
  readonly source: string;
  readonly pattern: string;
}

/** `groupsOf`: the groups of a source label's value, null where the pattern does not match. */
export const labelReplace = function* (
  series: readonly GridSeries[],
  { target, template, source, pattern }: Replacement,
  groupsOf: (value: string) => readonly string[] | null,
): Work<readonly GridSeries[]> {
  checkLabel(target, "label_replace");
  const names = groupNames(pattern);
  return yield* merged(
    yield* changed(series, (one) => {
      const groups = groupsOf(one.labels.get(source) ?? "");
      return groups === null ? one : withLabel(one, target, expand(template, groups, names));
    }),
  );
};

export const labelJoin = function* (
  series: readonly GridSeries[],
  target: string,
  separator: string,
  sources: readonly string[],
): Work<readonly GridSeries[]> {
  return yield* merged(
    yield* changed(series, (one) =>
      withLabel(one, target, sources.map((source) => one.labels.get(source) ?? "").join(separator)),
    ),
  );
};
