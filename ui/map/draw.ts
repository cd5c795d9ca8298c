/**
 * Paints the map: lines, then cards, then labels of the lines in question. Only what is in view is painted; text is left
 * out when it would be too small to read. Knows nothing of events or data sources; the same input paints the same picture.
 */
import type { MapEdge, ServiceCard } from "../../schemas/wire/page.ts";
import { formatMs, formatPercent, formatRate } from "../format.ts";
import { STATUS_GLYPH, typeGlyph, type Glyph } from "../kit/glyphs.ts";
import type { Curve } from "./geometry.ts";
import { CARD_H, CARD_W, type Placement, type Spot } from "./layout.ts";
import type { Palette } from "./palette.ts";
import { isFailing, type Scene } from "./scene.ts";

/** screen = world × k + (x, y) */
export interface View {
  readonly x: number;
  readonly y: number;
  readonly k: number;
}

export type Target = { readonly kind: "node"; readonly id: string } | { readonly kind: "edge"; readonly key: string };

export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly ratio: number;
  readonly view: View;
  readonly scene: Scene;
  readonly placed: Placement;
  readonly curves: ReadonlyMap<string, Curve>;
  readonly palette: Palette;
  readonly hover: Target | null;
  readonly selected: Target | null;
}

const glyphPaths = new Map<Glyph, Path2D>();
const paintGlyph = (
  ctx: CanvasRenderingContext2D,
  glyph: Glyph,
  x: number,
  y: number,
  size: number,
  color: string,
): void => {
  let path = glyphPaths.get(glyph);
  if (path === undefined) {
    path = new Path2D(glyph.path);
    glyphPaths.set(glyph, path);
  }
  ctx.save();
  ctx.translate(x - size / 2, y - size / 2);
  ctx.scale(size / 16, size / 16);
  if (glyph.stroke > 0) {
    ctx.strokeStyle = color;
    ctx.lineWidth = glyph.stroke;
    ctx.lineCap = "round";
    ctx.lineJoin = "round";
    ctx.stroke(path);
  } else {
    ctx.fillStyle = color;
    ctx.fill(path);
  }
  ctx.restore();
};

const shortened = new Map<string, string>();
const ellipsis = (ctx: CanvasRenderingContext2D, text: string, width: number): string => {
  const key = `${ctx.font}|${width}|${text}`;
  const known = shortened.get(key);
  if (known !== undefined) return known;
  let shown = text;
  for (let length = text.length; length > 1 && ctx.measureText(shown).width > width; length--)
    shown = `${text.slice(0, length - 1)}…`;
  if (shortened.size > 20_000) shortened.clear();
  shortened.set(key, shown);
  return shown;
};

/** What stands out: the thing in question and its neighbours; null = nothing is in question. */
const litBy = (picture: Picture): { nodes: Set<string>; edges: Set<string> } | null => {
  const target = picture.hover ?? picture.selected;
  if (target === null) return null;
  const nodes = new Set<string>();
  const edges = new Set<string>();
  if (target.kind === "node") {
    if (!picture.scene.cards.has(target.id)) return null;
    nodes.add(target.id);
  }
  for (const [key, { from, to }] of picture.scene.edges) {
    const touches = target.kind === "edge" ? key === target.key : from === target.id || to === target.id;
    if (!touches) continue;
    edges.add(key);
    nodes.add(from).add(to);
  }
  return { nodes, edges };
};

const lineWidth = (edge: MapEdge): number => 1 + Math.min(2.8, Math.log10(1 + edge.traffic.requestsPerSecond) * 0.9);
/** A mixture of reasons is too long for the map. */
const failedWords = ({ failedConnectsReason: why }: MapEdge): string =>
  why === "" || why.includes("/s") ? "failed connects" : why;

const isIdle = (edge: MapEdge): boolean => edge.traffic.requestsPerSecond === 0 && edge.failedConnectsPerSecond === 0;

const lineColor = (edge: MapEdge, palette: Palette): string =>
  edge.status === "warning" || edge.status === "critical"
    ? palette.status[edge.status]
    : isIdle(edge)
      ? palette.edgeIdle
      : palette.edge;

const trace = (ctx: CanvasRenderingContext2D, curve: Curve): void => {
  ctx.beginPath();
  ctx.moveTo(curve.start.x, curve.start.y);
  for (const [b, c, d] of curve.pieces) ctx.bezierCurveTo(b.x, b.y, c.x, c.y, d.x, d.y);
};

const paintEdge = (
  ctx: CanvasRenderingContext2D,
  edge: MapEdge,
  curve: Curve,
  picture: Picture,
  strong: boolean,
): void => {
  const { palette, view } = picture;
  const color =
    strong && edge.status !== "warning" && edge.status !== "critical" ? palette.accent : lineColor(edge, palette);
  const width = lineWidth(edge) / Math.min(1.4, Math.max(0.75, view.k));
  ctx.strokeStyle = color;
  ctx.lineWidth = width;
  ctx.setLineDash(isFailing(edge) ? [7, 5] : []);
  trace(ctx, curve);
  ctx.stroke();
  ctx.setLineDash([]);
  const end = curve.samples[curve.samples.length - 1];
  if (end === undefined || view.k < 0.25) return;
  const reach = 5.5 + width;
  ctx.fillStyle = color;
  ctx.beginPath();
  ctx.moveTo(end.x, end.y);
  ctx.lineTo(end.x - curve.heading * reach, end.y - reach * 0.55);
  ctx.lineTo(end.x - curve.heading * reach, end.y + reach * 0.55);
  ctx.fill();
};

const paintCard = (ctx: CanvasRenderingContext2D, card: ServiceCard, spot: Spot, picture: Picture): void => {
  const { palette, view, selected, hover } = picture;
  const x = spot.x - CARD_W / 2;
  const y = spot.y - CARD_H / 2;
  const chosen = selected?.kind === "node" && selected.id === card.id;
  const hovered = hover?.kind === "node" && hover.id === card.id;
  const loud = card.status === "warning" || card.status === "critical";
  ctx.beginPath();
  ctx.roundRect(x, y, CARD_W, CARD_H, 7);
  // the opaque base keeps lines from shining through a tinted card
  ctx.fillStyle = palette.surface;
  ctx.fill();
  ctx.fillStyle = palette.tint[card.status];
  ctx.fill();
  ctx.strokeStyle = chosen
    ? palette.accent
    : loud
      ? palette.status[card.status]
      : hovered
        ? palette.text3
        : palette.line;
  ctx.lineWidth = chosen ? 2.2 : loud ? 1.5 : 1;
  ctx.stroke();
  if (view.k < 0.28) {
    paintGlyph(ctx, STATUS_GLYPH[card.status], spot.x, spot.y, 26, palette.status[card.status]);
    return;
  }
  const detailed = view.k >= 0.48;
  const nameY = detailed ? y + 17 : spot.y;
  if (detailed) paintGlyph(ctx, typeGlyph(card.type, card.kind), x + 17, nameY, 15, palette.text3);
  paintGlyph(
    ctx,
    STATUS_GLYPH[card.status],
    x + CARD_W - 15,
    nameY,
    (loud ? 13 : 11) * (detailed ? 1 : 1.4),
    palette.status[card.status],
  );
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  // seen from afar the name grows in the card, so that it stays readable
  ctx.font = `600 ${detailed ? 13 : Math.round(Math.min(23, 10.5 / view.k))}px ${palette.font}`;
  ctx.fillStyle = palette.text;
  const nameX = detailed ? 30 : 11;
  ctx.fillText(ellipsis(ctx, card.name, CARD_W - nameX - 26), x + nameX, nameY + 0.5);
  if (!detailed) return;
  const row = y + 36;
  ctx.font = `11.5px ${palette.font}`;
  ctx.fillStyle = palette.text2;
  const { inbound } = card;
  if (inbound.requestsPerSecond === 0 && inbound.errorRatio === 0) {
    ctx.fillStyle = palette.text3;
    const sent = picture.scene.sends.get(card.id) ?? 0;
    ctx.fillText(
      inbound.pending > 0 ? `${inbound.pending} waiting` : sent > 0 ? `sends ${formatRate(sent)}` : "no requests",
      x + 11,
      row,
    );
    return;
  }
  ctx.fillText(formatRate(inbound.requestsPerSecond), x + 11, row);
  ctx.textAlign = "right";
  ctx.fillText(formatMs(inbound.p95Ms), x + 112, row);
  const bad = inbound.errorRatio > 0;
  ctx.fillStyle = bad && loud ? palette.status[card.status] : bad ? palette.text2 : palette.text3;
  if (bad && loud) ctx.font = `600 11.5px ${palette.font}`;
  ctx.fillText(formatPercent(inbound.errorRatio), x + CARD_W - 10, row);
};

const labelOf = (edge: MapEdge): readonly string[] => {
  const { traffic } = edge;
  const lines = isIdle(edge)
    ? ["no requests"]
    : [formatRate(traffic.requestsPerSecond), `${formatMs(traffic.p95Ms)} · ${formatPercent(traffic.errorRatio)}`];
  return edge.failedConnectsPerSecond > 0
    ? [...lines, `${formatRate(edge.failedConnectsPerSecond)} ${failedWords(edge)}`]
    : lines;
};

const LABEL_LINE = 14;

/** Labels keep the same size at every zoom, and move apart downwards rather than cover each other. */
const paintLabels = (ctx: CanvasRenderingContext2D, keys: ReadonlySet<string>, picture: Picture): void => {
  const { view, palette } = picture;
  ctx.font = `500 11px ${palette.font}`;
  ctx.textBaseline = "middle";
  ctx.textAlign = "center";
  const placed: { x: number; y: number; w: number; h: number }[] = [];
  const wanted = [...keys]
    .flatMap((key) => {
      const edge = picture.scene.edges.get(key);
      const curve = picture.curves.get(key);
      return edge === undefined || curve === undefined ? [] : [{ edge, curve }];
    })
    .sort((a, b) => a.curve.middle.y - b.curve.middle.y);
  for (const { edge, curve } of wanted) {
    const lines = labelOf(edge);
    const w = Math.max(...lines.map((text) => ctx.measureText(text).width)) + 14;
    const h = lines.length * LABEL_LINE + 6;
    const x = curve.middle.x * view.k + view.x;
    let y = curve.middle.y * view.k + view.y;
    for (const other of placed)
      if (Math.abs(other.x - x) < (other.w + w) / 2 && Math.abs(y - other.y) < (other.h + h) / 2 + 3)
        y = other.y + (other.h + h) / 2 + 3;
    placed.push({ x, y, w, h });
    ctx.beginPath();
    ctx.roundRect(x - w / 2, y - h / 2, w, h, 6);
    ctx.fillStyle = palette.surface;
    ctx.fill();
    ctx.strokeStyle =
      edge.status === "warning" || edge.status === "critical" ? palette.status[edge.status] : palette.line;
    ctx.lineWidth = 1;
    ctx.stroke();
    for (const [n, text] of lines.entries()) {
      ctx.fillStyle = n === 0 ? palette.text : n === 1 ? palette.text2 : palette.status.critical;
      ctx.fillText(text, x, y + (n - (lines.length - 1) / 2) * LABEL_LINE + 0.5);
    }
  }
};

const faint = (here: boolean): number => (here ? 1 : 0.22);

/** Whether labels fit between the columns at this zoom; if not, the page tells the same in a corner. */
export const hasRoomForLabels = (placed: Placement, k: number): boolean => (placed.column - CARD_W) * k >= 82;

export const paint = (ctx: CanvasRenderingContext2D, picture: Picture): void => {
  const { width, height, ratio, view, scene, placed, curves } = picture;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  ctx.setTransform(ratio * view.k, 0, 0, ratio * view.k, ratio * view.x, ratio * view.y);
  const left = -view.x / view.k - CARD_W;
  const top = -view.y / view.k - CARD_H;
  const right = (width - view.x) / view.k + CARD_W;
  const bottom = (height - view.y) / view.k + CARD_H;
  const lit = litBy(picture);
  for (const [key, edge] of scene.edges) {
    const curve = curves.get(key);
    const end = curve?.samples[curve.samples.length - 1];
    if (curve === undefined || end === undefined || lit?.edges.has(key) === true) continue;
    if (Math.max(curve.start.x, end.x) < left || Math.min(curve.start.x, end.x) > right) continue;
    if (curve.bottom < top || curve.top > bottom) continue;
    const found = scene.matches === null || scene.matches.has(edge.from) || scene.matches.has(edge.to);
    ctx.globalAlpha = faint(lit === null && found);
    paintEdge(ctx, edge, curve, picture, false);
  }
  ctx.globalAlpha = 1;
  for (const key of lit?.edges ?? []) {
    const edge = scene.edges.get(key);
    const curve = curves.get(key);
    if (edge !== undefined && curve !== undefined) paintEdge(ctx, edge, curve, picture, true);
  }
  for (const [id, card] of scene.cards) {
    const spot = placed.spots.get(id);
    if (spot === undefined || spot.x < left || spot.x > right || spot.y < top || spot.y > bottom) continue;
    ctx.globalAlpha =
      lit !== null ? (lit.nodes.has(id) ? 1 : 0.32) : scene.matches === null || scene.matches.has(id) ? 1 : 0.28;
    paintCard(ctx, card, spot, picture);
  }
  ctx.globalAlpha = 1;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  // the panel tells the figures of what is selected; labels come with the pointer
  const asked = picture.hover !== null || picture.selected?.kind === "edge";
  if (lit !== null && asked && hasRoomForLabels(placed, view.k)) paintLabels(ctx, lit.edges, picture);
};
