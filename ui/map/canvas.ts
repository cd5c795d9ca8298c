/**
 * The map's canvas: owns the arrangement, the view (pan, zoom), pointer and keys, and repaints. Made by the map view for
 * its canvas element; takes data straight from the live store, not through React, so that a change is painted in the
 * very frame that delivers it. The arrangement outlives it (`memory`), so leaving the view and coming back moves nothing.
 * It stops with `destroy()`; without a 2D context it throws, which the router's error page shows.
 */
import type { Live } from "../live.ts";
import { curveOf, distanceTo, type Curve } from "./geometry.ts";
import { hasRoomForLabels, paint, type Target, type View } from "./draw.ts";
import { CARD_H, CARD_W, EMPTY, extend, layOut, type Placement } from "./layout.ts";
import { edgeKey } from "./graph.ts";
import { readPalette } from "./palette.ts";
import { buildScene, NO_FILTER, type MapFilter, type Scene } from "./scene.ts";

declare global {
  interface Window {
    /**
     * Read by the end-to-end measurement of "kernel event to pixel": the number and server time of the newest change of
     * topic "map" that is on screen, and when that frame was done (ms since the epoch, this machine's clock).
     */
    __corootPainted?: { readonly seq: number; readonly nowMs: number; readonly at: number };
  }
}

/** What stays between visits of the map in this tab. */
interface Memory {
  placed: Placement;
  view: View | null;
}
const memory: Memory = { placed: EMPTY, view: null };

export interface MapEvents {
  /** what is selected changed by hand */
  readonly onSelect: (target: Target | null) => void;
  readonly onOpen: (id: string) => void;
  /** `told`: its figures are painted beside its lines already */
  readonly onHover: (target: Target | null, told: boolean) => void;
}

export interface MapCanvas {
  readonly setFilter: (filter: MapFilter) => void;
  /** shows it as selected, and brings it into view when asked */
  readonly select: (target: Target | null, reveal: boolean) => void;
  /** the colours are read again when it differs from the theme painted so far */
  readonly setTheme: (scheme: "light" | "dark") => void;
  readonly zoomBy: (factor: number) => void;
  readonly fit: () => void;
  readonly tidy: () => void;
  /** next match of the search, brought into view */
  readonly nextMatch: () => string | null;
  readonly destroy: () => void;
}

const LEAST_ZOOM = 0.08;
const MOST_ZOOM = 2.5;
/** while nobody touched a fresh map, services that are just being discovered may still rearrange it */
const SETTLING_MS = 20_000;

export const makeMapCanvas = (canvas: HTMLCanvasElement, live: Live, topic: string, events: MapEvents): MapCanvas => {
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("The map needs a 2D canvas, which this browser does not give.");
  let filter: MapFilter = NO_FILTER;
  let scene: Scene = buildScene(new Map(), filter);
  let curves = new Map<string, Curve>();
  let palette = readPalette();
  let theme: "light" | "dark" | null = null;
  let view: View = memory.view ?? { x: 0, y: 0, k: 1 };
  let size = { width: 0, height: 0 };
  let hover: Target | null = null;
  let selected: Target | null = null;
  let touched = memory.view !== null;
  let firstDataAt = 0;
  let frame = 0;
  let glide = 0;
  let matchIndex = -1;
  const afterFrame = new MessageChannel();
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  const draw = (): void => {
    cancelAnimationFrame(frame);
    frame = 0;
    if (size.width === 0) return;
    const ratio = window.devicePixelRatio;
    paint(context, { ...size, ratio, view, scene, placed: memory.placed, curves, palette, hover, selected });
  };
  const schedule = (): void => {
    if (frame === 0) frame = requestAnimationFrame(draw);
  };

  const setView = (next: View): void => {
    view = next;
    memory.view = next;
    schedule();
  };

  /** Moves the view there within 180 ms, at once for readers who asked for less motion. */
  const glideTo = (goal: View): void => {
    cancelAnimationFrame(glide);
    if (calm.matches) return setView(goal);
    const from = view;
    const began = performance.now();
    const step = (): void => {
      const t = Math.min(1, (performance.now() - began) / 180);
      const eased = 1 - (1 - t) ** 3;
      const mix = (a: number, b: number): number => a + (b - a) * eased;
      setView({ x: mix(from.x, goal.x), y: mix(from.y, goal.y), k: mix(from.k, goal.k) });
      if (t < 1) glide = requestAnimationFrame(step);
    };
    step();
  };

  const fitted = (): View => {
    const spots = [...scene.cards.keys()].flatMap((id) => memory.placed.spots.get(id) ?? []);
    if (spots.length === 0 || size.width === 0) return view;
    const xs = spots.map((spot) => spot.x);
    const ys = spots.map((spot) => spot.y);
    const [left, right] = [Math.min(...xs) - CARD_W / 2, Math.max(...xs) + CARD_W / 2];
    const [top, bottom] = [Math.min(...ys) - CARD_H / 2, Math.max(...ys) + CARD_H / 2];
    const room = { width: size.width - 72, height: size.height - 72 };
    const k = Math.max(LEAST_ZOOM, Math.min(1.15, room.width / (right - left), room.height / (bottom - top)));
    return { k, x: size.width / 2 - ((left + right) / 2) * k, y: size.height / 2 - ((top + bottom) / 2) * k };
  };

  const rebuildCurves = (): void => {
    curves = new Map(
      scene.allEdges.flatMap(({ from, to }) => {
        const key = edgeKey(from, to);
        const curve = curveOf(memory.placed, key, from, to);
        return curve === null ? [] : [[key, curve] as const];
      }),
    );
  };

  /** services and calls of the current arrangement */
  let known: ReadonlySet<string> = new Set();
  const arrange = (): void => {
    const now = new Set([...scene.allNodes, ...scene.allEdges.map((edge) => edgeKey(edge.from, edge.to))]);
    if (now.size === known.size && [...now].every((name) => known.has(name))) return;
    known = now;
    const graph = { nodes: scene.allNodes, edges: scene.allEdges };
    if (scene.allNodes.length > 0 && firstDataAt === 0) firstDataAt = performance.now();
    const settling = !touched && performance.now() - firstDataAt < SETTLING_MS;
    memory.placed = settling ? layOut(graph) : extend(memory.placed, graph);
    rebuildCurves();
    if (settling) view = fitted();
  };

  const takeData = (): void => {
    const state = live.read(topic);
    if (!state.ready) return;
    scene = buildScene(state.entries, filter);
    arrange();
    // this runs inside the store's animation frame: painting now puts the change into this very frame
    draw();
    afterFrame.port2.postMessage({ seq: state.seq, nowMs: state.nowMs });
  };
  // a message posted during the frame is handled after the frame was handed over for display
  afterFrame.port1.onmessage = (event: MessageEvent<{ seq: number; nowMs: number }>) => {
    window.__corootPainted = { ...event.data, at: performance.timeOrigin + performance.now() };
  };

  const at = (event: MouseEvent): { x: number; y: number } => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const hit = (point: { x: number; y: number }): Target | null => {
    const x = (point.x - view.x) / view.k;
    const y = (point.y - view.y) / view.k;
    for (const id of scene.cards.keys()) {
      const spot = memory.placed.spots.get(id);
      if (spot !== undefined && Math.abs(spot.x - x) <= CARD_W / 2 && Math.abs(spot.y - y) <= CARD_H / 2)
        return { kind: "node", id };
    }
    let best: Target | null = null;
    let nearest = 7 / view.k;
    for (const key of scene.edges.keys()) {
      const curve = curves.get(key);
      if (curve === undefined) continue;
      const distance = distanceTo(curve.samples, x, y);
      if (distance < nearest) {
        nearest = distance;
        best = { kind: "edge", key };
      }
    }
    return best;
  };

  const setHover = (next: Target | null): void => {
    if (same(hover, next)) return;
    hover = next;
    canvas.style.cursor = next === null ? "grab" : "pointer";
    events.onHover(next, hasRoomForLabels(memory.placed, view.k));
    schedule();
  };

  let drag: { x: number; y: number; moved: boolean; pointer: number } | null = null;
  const onDown = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    touched = true;
    cancelAnimationFrame(glide);
    drag = { ...at(event), moved: false, pointer: event.pointerId };
    canvas.setPointerCapture(event.pointerId);
  };
  const onMove = (event: PointerEvent): void => {
    const point = at(event);
    // from here on the reader looks at something: nothing that has a place moves any more
    touched = true;
    if (drag === null) return setHover(hit(point));
    const [dx, dy] = [point.x - drag.x, point.y - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    canvas.style.cursor = "grabbing";
    drag = { ...drag, ...point, moved: true };
    setView({ ...view, x: view.x + dx, y: view.y + dy });
  };
  const onUp = (event: PointerEvent): void => {
    const was = drag;
    drag = null;
    if (was === null) return;
    canvas.style.cursor = hover === null ? "grab" : "pointer";
    if (was.moved) return;
    const target = hit(at(event));
    selected = target;
    events.onSelect(target);
    schedule();
  };
  const onDouble = (event: MouseEvent): void => {
    const target = hit(at(event));
    if (target?.kind === "node") events.onOpen(target.id);
  };
  const zoomAt = (point: { x: number; y: number }, factor: number): View => {
    const k = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, view.k * factor));
    const ratio = k / view.k;
    return { k, x: point.x - (point.x - view.x) * ratio, y: point.y - (point.y - view.y) * ratio };
  };
  const onWheel = (event: WheelEvent): void => {
    event.preventDefault();
    touched = true;
    cancelAnimationFrame(glide);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    // a pinch arrives as a wheel with ctrl and small steps
    setView(zoomAt(at(event), Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016))));
  };

  const bring = (id: string): void => {
    const spot = memory.placed.spots.get(id);
    if (spot === undefined) return;
    const x = spot.x * view.k + view.x;
    const y = spot.y * view.k + view.y;
    const margin = { x: (CARD_W / 2) * view.k + 24, y: (CARD_H / 2) * view.k + 24 };
    const k = Math.max(view.k, 0.6);
    if (k === view.k && x > margin.x && x < size.width - margin.x && y > margin.y && y < size.height - margin.y) return;
    glideTo({ k, x: size.width / 2 - spot.x * k, y: size.height / 2 - spot.y * k });
  };

  const onKey = (event: KeyboardEvent): void => {
    const arrows: Record<string, readonly [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const arrow = arrows[event.key];
    if (event.key === "+" || event.key === "=") glideTo(zoomAt({ x: size.width / 2, y: size.height / 2 }, 1.25));
    else if (event.key === "-") glideTo(zoomAt({ x: size.width / 2, y: size.height / 2 }, 0.8));
    else if (event.key === "0") glideTo(fitted());
    else if (event.key === "Escape") {
      selected = null;
      events.onSelect(null);
      schedule();
    } else if (event.key === "Enter" && selected?.kind === "node") events.onOpen(selected.id);
    else if (arrow !== undefined) {
      const next = neighbourOf(selected?.kind === "node" ? selected.id : null, arrow[0], arrow[1]);
      if (next !== null) {
        touched = true;
        selected = { kind: "node", id: next };
        bring(next);
        events.onSelect(selected);
        schedule();
      }
    } else return;
    event.preventDefault();
  };

  /** The nearest service in a direction; without a selection the first one, top left. */
  const neighbourOf = (id: string | null, dx: number, dy: number): string | null => {
    const origin = id === null ? undefined : memory.placed.spots.get(id);
    let best: string | null = null;
    let least = Infinity;
    for (const other of scene.cards.keys()) {
      const spot = memory.placed.spots.get(other);
      if (spot === undefined || other === id) continue;
      if (origin === undefined) {
        const rank = spot.x * 10 + spot.y;
        if (rank < least) [best, least] = [other, rank];
        continue;
      }
      const ahead = (spot.x - origin.x) * dx + (spot.y - origin.y) * dy;
      const aside = Math.abs((spot.x - origin.x) * dy) + Math.abs((spot.y - origin.y) * dx);
      if (ahead < 10) continue;
      const rank = ahead + aside * 2;
      if (rank < least) [best, least] = [other, rank];
    }
    return best;
  };

  const onLeave = (): void => setHover(null);
  canvas.addEventListener("pointerdown", onDown);
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointerleave", onLeave);
  canvas.addEventListener("dblclick", onDouble);
  canvas.addEventListener("wheel", onWheel, { passive: false });
  canvas.addEventListener("keydown", onKey);
  const observer = new ResizeObserver(() => {
    const first = size.width === 0;
    const box = canvas.getBoundingClientRect();
    size = { width: Math.round(box.width), height: Math.round(box.height) };
    canvas.width = Math.round(size.width * window.devicePixelRatio);
    canvas.height = Math.round(size.height * window.devicePixelRatio);
    if (!touched) view = fitted();
    else if (first && selected?.kind === "node") bring(selected.id);
    draw();
  });
  observer.observe(canvas);
  const unsubscribe = live.subscribe(topic, takeData);
  takeData();

  return {
    setFilter: (next) => {
      if (next.find !== filter.find) matchIndex = -1;
      filter = next;
      const state = live.read(topic);
      scene = buildScene(state.entries, filter);
      arrange();
      schedule();
    },
    select: (target, reveal) => {
      if (same(selected, target)) return;
      selected = target;
      if (reveal && target?.kind === "node") bring(target.id);
      schedule();
    },
    setTheme: (scheme) => {
      if (scheme === theme) return;
      theme = scheme;
      palette = readPalette();
      draw();
    },
    zoomBy: (factor) => {
      touched = true;
      glideTo(zoomAt({ x: size.width / 2, y: size.height / 2 }, factor));
    },
    fit: () => glideTo(fitted()),
    tidy: () => {
      memory.placed = layOut({ nodes: scene.allNodes, edges: scene.allEdges });
      rebuildCurves();
      glideTo(fitted());
    },
    nextMatch: () => {
      const found = [...(scene.matches ?? [])].sort();
      if (found.length === 0) return null;
      matchIndex = (matchIndex + 1) % found.length;
      const id = found[matchIndex] ?? null;
      if (id === null) return null;
      touched = true;
      bring(id);
      return id;
    },
    destroy: () => {
      unsubscribe();
      observer.disconnect();
      cancelAnimationFrame(frame);
      cancelAnimationFrame(glide);
      afterFrame.port1.close();
      canvas.removeEventListener("pointerdown", onDown);
      canvas.removeEventListener("pointermove", onMove);
      canvas.removeEventListener("pointerup", onUp);
      canvas.removeEventListener("pointerleave", onLeave);
      canvas.removeEventListener("dblclick", onDouble);
      canvas.removeEventListener("wheel", onWheel);
      canvas.removeEventListener("keydown", onKey);
    },
  };
};

const same = (a: Target | null, b: Target | null): boolean =>
  a === b ||
  (a !== null &&
    b !== null &&
    a.kind === b.kind &&
    (a.kind === "node" ? a.id : a.key) === (b.kind === "node" ? b.id : b.key));
