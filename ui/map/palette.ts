/** The theme's colours as the canvas needs them, read from the style sheet's custom properties once per theme. */
import type { HealthStatus } from "../../schemas/service.ts";

export interface Palette {
  readonly text: string;
  readonly text2: string;
  readonly text3: string;
  readonly surface: string;
  readonly line: string;
  readonly edge: string;
  readonly edgeIdle: string;
  readonly accent: string;
  readonly status: Readonly<Record<HealthStatus, string>>;
  readonly tint: Readonly<Record<HealthStatus, string>>;
  readonly font: string;
}

export const readPalette = (): Palette => {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  const surface = color("--surface");
  return {
    text: color("--text"),
    text2: color("--text-2"),
    text3: color("--text-3"),
    surface,
    line: color("--line-strong"),
    edge: color("--edge"),
    edgeIdle: color("--edge-idle"),
    accent: color("--accent"),
    status: {
      ok: color("--ok"),
      info: color("--info"),
      warning: color("--warn"),
      critical: color("--crit"),
      unknown: color("--unknown"),
    },
    tint: { ok: surface, info: surface, unknown: surface, warning: color("--warn-bg"), critical: color("--crit-bg") },
    font: getComputedStyle(document.body).fontFamily,
  };
};
