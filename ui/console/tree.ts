/** The tree of actors from their paths' parents; orphans (their parent is gone) stand at the top. Pure. */
import type { ActorView } from "../../schemas/wire/page.ts";

export interface Branch {
  readonly actor: ActorView;
  readonly children: readonly Branch[];
  /** of the branch with all below */
  readonly size: number;
  readonly restarts: number;
  readonly troubled: number;
}

export const treeOf = (actors: ReadonlyMap<string, ActorView>): readonly Branch[] => {
  const children = new Map<string | null, ActorView[]>();
  for (const actor of actors.values()) {
    const parent = actor.parent !== null && actors.has(actor.parent) ? actor.parent : null;
    children.set(parent, [...(children.get(parent) ?? []), actor]);
  }
  const branch = (actor: ActorView, trail: ReadonlySet<string>): Branch => {
    // a circle of parents would be a fault of the server; it must not hang the page
    const below = trail.has(actor.path)
      ? []
      : (children.get(actor.path) ?? [])
          .sort((a, b) => (a.path < b.path ? -1 : 1))
          .map((child) => branch(child, new Set([...trail, actor.path])));
    return {
      actor,
      children: below,
      size: 1 + below.reduce((sum, each) => sum + each.size, 0),
      restarts: actor.restarts + below.reduce((sum, each) => sum + each.restarts, 0),
      troubled: Number(actor.state === "quarantined") + below.reduce((sum, each) => sum + each.troubled, 0),
    };
  };
  return (children.get(null) ?? []).sort((a, b) => (a.path < b.path ? -1 : 1)).map((actor) => branch(actor, new Set()));
};

/** An actor's own name: its path below its parent's. */
export const shortName = (actor: ActorView): string =>
  actor.parent !== null && actor.path.startsWith(actor.parent)
    ? actor.path.slice(actor.parent.length).replace(/^\//, "") || actor.path
    : actor.path;

/** The paths of an actor and of all below it, by who is whose parent (a path need not tell). */
export const pathsUnder = (tree: readonly Branch[], root: string): ReadonlySet<string> => {
  const found = new Set<string>();
  const walk = (branches: readonly Branch[], inside: boolean): void => {
    for (const { actor, children } of branches) {
      const here = inside || actor.path === root;
      if (here) found.add(actor.path);
      walk(children, here);
    }
  };
  walk(tree, false);
  return found;
};
