/**
 * The map view: toolbar, canvas, side panel, shelf. The address holds what is selected, searched and filtered. The canvas
 * feeds itself from the live store; this component re-renders for the toolbar, the panel and the shelf only.
 */
import { useComputedColorScheme } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useRef, useState } from "react";
import { Empty } from "../kit/signs.tsx";
import { STATUS_WORD } from "../kit/glyphs.ts";
import { useLive, useTopic } from "../live/hooks.ts";
import { nameOf, plural, toSplat } from "../names.ts";
import { IncidentBanner } from "./incident-banner.tsx";
import { makeMapCanvas, type MapCanvas } from "./canvas.ts";
import type { Target } from "./draw.ts";
import { HoverCard } from "./hover-card.tsx";
import { Legend } from "./legend.tsx";
import { SidePanel } from "./panel.tsx";
import { buildScene, type MapFilter } from "./scene.ts";
import { Shelf } from "./shelf.tsx";
import { Toolbar } from "./toolbar.tsx";
import { WhyEmpty } from "./why-empty.tsx";

export interface MapSearch {
  readonly select?: string | undefined;
  readonly edge?: string | undefined;
  readonly ns?: string | undefined;
  readonly kind?: string | undefined;
  readonly find?: string | undefined;
  /** ms since the epoch: the map of then */
  readonly at?: string | undefined;
}

const setOf = (list: string | undefined): ReadonlySet<string> =>
  new Set(list === undefined || list === "" ? [] : list.split(","));

export const MapPage = () => {
  const live = useLive();
  const search: MapSearch = useSearch({ from: "/" });
  const navigate = useNavigate();
  const scheme = useComputedColorScheme("light");
  const topic = search.at === undefined ? "map" : `map:${search.at}`;
  const state = useTopic(topic);
  const canvasElement = useRef<HTMLCanvasElement>(null);
  const map = useRef<MapCanvas | null>(null);
  const [hover, setHover] = useState<{ readonly target: Target | null; readonly told: boolean }>({
    target: null,
    told: false,
  });

  const filter = useMemo<MapFilter>(
    () => ({ namespaces: setOf(search.ns), kinds: setOf(search.kind), find: search.find ?? "" }),
    [search.ns, search.kind, search.find],
  );
  const scene = useMemo(() => buildScene(state.entries, filter), [state.entries, filter]);
  const target = useMemo<Target | null>(
    () =>
      search.select !== undefined
        ? { kind: "node", id: search.select }
        : search.edge !== undefined
          ? { kind: "edge", key: search.edge }
          : null,
    [search.select, search.edge],
  );

  const setSearch = (change: MapSearch): void => {
    void navigate({ to: "/", search: (before) => ({ ...before, ...change }), replace: true });
  };
  const choose = (next: Target | null): void =>
    setSearch({
      select: next?.kind === "node" ? next.id : undefined,
      edge: next?.kind === "edge" ? next.key : undefined,
    });
  const handlers = useRef({ choose, navigate, filter });
  useEffect(() => {
    handlers.current = { choose, navigate, filter };
  });

  useEffect(() => {
    const element = canvasElement.current;
    if (element === null) return;
    const made = makeMapCanvas(element, live, topic, {
      onSelect: (next) => handlers.current.choose(next),
      onOpen: (id) => void handlers.current.navigate({ to: "/service/$", params: { _splat: toSplat(id) } }),
      onHover: (next, told) => setHover({ target: next, told }),
    });
    made.setFilter(handlers.current.filter);
    map.current = made;
    return () => {
      map.current = null;
      made.destroy();
    };
  }, [live, topic]);
  useEffect(() => map.current?.setFilter(filter), [filter]);
  useEffect(() => map.current?.select(target, true), [target]);
  useEffect(() => map.current?.setTheme(scheme), [scheme]);

  const nothing = state.ready && scene.allNodes.length === 0;
  return (
    <div className="map-page">
      <IncidentBanner />
      <Toolbar
        scene={scene}
        filter={filter}
        onFind={(find) => setSearch({ find: find === "" ? undefined : find })}
        onFindNext={() => {
          const id = map.current?.nextMatch() ?? null;
          if (id !== null) choose({ kind: "node", id });
        }}
        onNamespaces={(chosen) => setSearch({ ns: chosen.length === 0 ? undefined : chosen.join(",") })}
        onKinds={(chosen) => setSearch({ kind: chosen.length === 0 ? undefined : chosen.join(",") })}
        onZoom={(factor) => map.current?.zoomBy(factor)}
        onFit={() => map.current?.fit()}
        onTidy={() => map.current?.tidy()}
        at={search.at === undefined ? null : Number(search.at)}
        onAt={(at) => setSearch({ at: at === null ? undefined : String(at) })}
      />
      <div className="map-body">
        <div className="map-stage">
          <canvas
            ref={canvasElement}
            className="map-canvas"
            tabIndex={0}
            role="application"
            aria-label="Service map. Arrow keys move between services, Enter opens one, plus and minus zoom, 0 shows all."
          />
          {nothing ? (
            <div className="map-empty">
              <WhyEmpty services={state.entries.size} />
            </div>
          ) : null}
          {!state.ready ? (
            <div className="map-empty">
              <Empty title={state.error ?? "Loading the map…"} />
            </div>
          ) : null}
          {nothing ? null : <Legend />}
          {hover.target === null || hover.told ? null : <HoverCard scene={scene} target={hover.target} />}
          <div className="visually-hidden" aria-live="polite">
            {announce(scene, hover.target ?? target)}
          </div>
        </div>
        {target === null ? null : (
          <SidePanel scene={scene} target={target} onClose={() => choose(null)} onChoose={choose} />
        )}
      </div>
      <Shelf cards={scene.shelf} />
    </div>
  );
};

const announce = (scene: ReturnType<typeof buildScene>, target: Target | null): string => {
  if (target === null) return "";
  if (target.kind === "edge") {
    const edge = scene.edges.get(target.key);
    return edge === undefined ? "" : `Call from ${nameOf(edge.from)} to ${nameOf(edge.to)}`;
  }
  const card = scene.cards.get(target.id);
  if (card === undefined) return "";
  const out = [...scene.edges.values()].filter((edge) => edge.from === card.id).length;
  return `${card.name}, ${STATUS_WORD[card.status]}, calls ${plural(out, "service")}`;
};
