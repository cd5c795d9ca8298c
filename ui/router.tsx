/**
 * Addresses of the page. Everything that a reader could want to send to a colleague is in them. The map comes with the
 * first bundle, the other views when they are opened. An address that leads nowhere and a view that fails say so.
 */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link } from "@tanstack/react-router";
import { Empty } from "./kit/signs.tsx";
import { MapPage, type MapSearch } from "./map/page.tsx";
import { Shell } from "./shell/shell.tsx";

type Search = Readonly<Record<string, unknown>>;
const text = (search: Search, name: string): string | undefined => {
  const value = search[name];
  return typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : undefined;
};

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => (
    <Empty title="Nothing is at this address">
      <Link to="/" className="link">
        To the map
      </Link>
    </Empty>
  ),
  errorComponent: ({ error }) => (
    <Empty title="This view failed">{error instanceof Error ? error.message : String(error)}</Empty>
  ),
});

const map = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: MapPage,
  validateSearch: (search: Search): MapSearch => ({
    select: text(search, "select"),
    edge: text(search, "edge"),
    ns: text(search, "ns"),
    kind: text(search, "kind"),
    find: text(search, "find"),
    at: text(search, "at"),
  }),
});

export interface ListSearch {
  readonly find?: string | undefined;
  readonly sort?: string | undefined;
  readonly show?: string | undefined;
  readonly under?: string | undefined;
  readonly ns?: string | undefined;
}
const listSearch = (search: Search): ListSearch => ({
  find: text(search, "find"),
  sort: text(search, "sort"),
  show: text(search, "show"),
  under: text(search, "under"),
  ns: text(search, "ns"),
});

const services = createRoute({
  getParentRoute: () => root,
  path: "/services",
  component: lazyRouteComponent(() => import("./services/list.tsx"), "ServicesPage"),
  validateSearch: listSearch,
});

const service = createRoute({
  getParentRoute: () => root,
  path: "/service/$",
  component: lazyRouteComponent(() => import("./services/page.tsx"), "ServicePage"),
  validateSearch: (search: Search): { readonly range?: string | undefined } => ({ range: text(search, "range") }),
});

const incidents = createRoute({
  getParentRoute: () => root,
  path: "/incidents",
  component: lazyRouteComponent(() => import("./incidents/list.tsx"), "IncidentsPage"),
  validateSearch: listSearch,
});

const incident = createRoute({
  getParentRoute: () => root,
  path: "/incident/$id",
  component: lazyRouteComponent(() => import("./incidents/page.tsx"), "IncidentPage"),
});

const agents = createRoute({
  getParentRoute: () => root,
  path: "/agents",
  component: lazyRouteComponent(() => import("./agents/page.tsx"), "AgentsPage"),
  validateSearch: listSearch,
});

const console = createRoute({ getParentRoute: () => root, path: "/console" });

const actors = createRoute({
  getParentRoute: () => console,
  path: "/",
  component: lazyRouteComponent(() => import("./console/page.tsx"), "ConsolePage"),
  validateSearch: listSearch,
});

const actor = createRoute({
  getParentRoute: () => console,
  path: "$",
  component: lazyRouteComponent(() => import("./console/actor.tsx"), "ActorPage"),
});

const trace = createRoute({
  getParentRoute: () => root,
  path: "/trace/$id",
  component: lazyRouteComponent(() => import("./console/trace.tsx"), "TracePage"),
});

const deadLetters = createRoute({
  getParentRoute: () => root,
  path: "/dead-letters",
  component: lazyRouteComponent(() => import("./console/trace.tsx"), "DeadLettersPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([
    map,
    services,
    service,
    incidents,
    incident,
    trace,
    deadLetters,
    agents,
    console.addChildren([actors, actor]),
  ]),
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
