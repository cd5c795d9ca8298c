/**
 * Which goals fit what was typed, best first, grouped. A goal fits when every word occurs in its title or detail;
 * a title that begins with the text comes before one that merely contains it, then the shorter one. Pure.
 */
import type { HealthStatus } from "../../schemas/service.ts";

export interface Goal {
  readonly key: string;
  readonly group: "Views" | "Services" | "Incidents" | "Agents";
  readonly title: string;
  readonly detail: string;
  readonly path: "/" | "/services" | "/incidents" | "/agents" | "/console" | "service" | "incident" | "agent";
  readonly id?: string;
  readonly status?: HealthStatus;
  readonly type?: string;
  readonly kind?: string;
}

const GROUPS: readonly Goal["group"][] = ["Services", "Incidents", "Agents", "Views"];

const score = (goal: Goal, text: string): number | null => {
  if (text === "") return goal.group === "Views" ? 0 : goal.group === "Incidents" && goal.detail !== "resolved" ? 1 : 5;
  const title = goal.title.toLowerCase();
  const all = `${title} ${goal.detail.toLowerCase()}`;
  if (!text.split(/\s+/).every((word) => all.includes(word))) return null;
  return title === text ? 0 : title.startsWith(text) ? 1 : title.includes(text) ? 2 : 3;
};

export const rank = (goals: readonly Goal[], typed: string, most: number): readonly Goal[] => {
  const text = typed.trim().toLowerCase();
  const best = goals
    .flatMap((goal) => {
      const value = score(goal, text);
      return value === null ? [] : [{ goal, value }];
    })
    .sort(
      (a, b) =>
        a.value - b.value || a.goal.title.length - b.goal.title.length || a.goal.title.localeCompare(b.goal.title),
    )
    .slice(0, most);
  // groups stand in the order of their best member, so the first line is always the best fit
  const order = [...GROUPS].sort((a, b) => firstOf(best, a) - firstOf(best, b));
  return order.flatMap((group) => best.filter(({ goal }) => goal.group === group).map(({ goal }) => goal));
};

const firstOf = (best: readonly { readonly goal: Goal }[], group: Goal["group"]): number => {
  const at = best.findIndex(({ goal }) => goal.group === group);
  return at < 0 ? Infinity : at;
};
