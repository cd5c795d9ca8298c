/**
 * Label sets: what names a series. A label without a value is no label. Pure; maps, since a label may be called like
 * anything.
 */
import { METRIC_NAME } from "./ast.ts";

export type Labels = ReadonlyMap<string, string>;

export const NO_LABELS: Labels = new Map();

export const labelsOf = (entries: Iterable<readonly [string, string]>): Labels => {
  const out = new Map<string, string>();
  for (const [name, value] of entries) if (value !== "") out.set(name, value);
  return out;
};

/** One text per set, whatever the order of its labels. */
export const labelsKey = (labels: Labels): string => {
  const names = [...labels.keys()].sort();
  let key = "";
  for (const name of names) key += `${name}\u0000${labels.get(name) ?? ""}\u0001`;
  return key;
};

export const without = (labels: Labels, names: readonly string[]): Labels => {
  const out = new Map(labels);
  for (const name of names) out.delete(name);
  return out;
};

export const only = (labels: Labels, names: readonly string[]): Labels => {
  const out = new Map<string, string>();
  for (const name of names) {
    const value = labels.get(name);
    if (value !== undefined) out.set(name, value);
  }
  return out;
};

export const withoutName = (labels: Labels): Labels =>
  labels.has(METRIC_NAME) ? without(labels, [METRIC_NAME]) : labels;

/** As Prometheus writes it in messages: `name{a="b"}`. */
export const labelsText = (labels: Labels): string => {
  const pairs = [...labels].filter(([name]) => name !== METRIC_NAME).sort(([a], [b]) => (a < b ? -1 : 1));
  const inner = pairs.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(", ");
  return `${labels.get(METRIC_NAME) ?? ""}{${inner}}`;
};
