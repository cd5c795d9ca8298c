/**
 * A flame graph out of stacks with values: a tree of functions in arrays, in the order of a walk from the root. Pure, in
 * steps, so that a large one holds up nobody. Bounded: the nodes with the largest values are kept, and what their other
 * children have is one node "(other)" for each parent.
 */
import { ABSENT, Ints, Keys64 } from "../Keys64.ts";

/** A function as "name<tab>file", by number. */
export interface ResolvedStacks {
  readonly functions: readonly string[];
  /** per stack: its functions, root first; null: it is not known */
  readonly stacks: readonly (Int32Array | null)[];
  /** per stack, in the range and in the one that it is compared with */
  readonly value: ArrayLike<number>;
  readonly base: ArrayLike<number>;
  /** values of stacks that are not among them */
  readonly restValue: number;
  readonly restBase: number;
}

export interface FlameNodes {
  readonly names: readonly string[];
  readonly files: readonly string[];
  /** per node, parents before their children and next to them: its depth, with 0 for the root */
  readonly depth: readonly number[];
  /** per node: place in `names` and `files` */
  readonly frame: readonly number[];
  readonly self: readonly number[];
  readonly total: readonly number[];
  readonly baseSelf: readonly number[];
  readonly baseTotal: readonly number[];
  /** nodes that became part of an "(other)" */
  readonly merged: number;
}

export const ROOT_NAME = "total";
export const OTHER_NAME = "(other)";
const UNKNOWN_NAME = "[unknown stack]";
/** Before the smallest are merged; what would be more is merged at once. */
const MOST_GROWN = 400_000;
const PIECE = 40_000;
const NONE = -1;
/** No function's number. */
const UNKNOWN = 0x7fffffff;

class Tree {
  readonly parents = new Ints(1024);
  readonly functions = new Ints(1024);
  readonly firstChild = new Ints(1024);
  readonly sibling = new Ints(1024);
  readonly self: number[] = [];
  readonly total: number[] = [];
  readonly baseSelf: number[] = [];
  readonly baseTotal: number[] = [];
  /** what belongs to children that there are no nodes for */
  readonly lost = new Map<number, readonly [value: number, base: number]>();
  private readonly children = new Keys64();

  node(parent: number, func: number): number {
    const found = this.children.get(func, parent);
    if (found !== ABSENT) return found;
    const node = this.parents.length;
    if (node >= MOST_GROWN) return NONE;
    this.parents.push(parent);
    this.functions.push(func);
    this.firstChild.push(NONE);
    this.sibling.push(parent < 0 ? NONE : this.firstChild.at(parent));
    if (parent >= 0) this.firstChild.values[parent] = node;
    this.self.push(0);
    this.total.push(0);
    this.baseSelf.push(0);
    this.baseTotal.push(0);
    if (parent >= 0) this.children.set(func, parent, node);
    return node;
  }

  add(stack: Int32Array, value: number, base: number): void {
    let node = 0;
    this.count(0, value, base);
    for (const func of stack) {
      const child = this.node(node, func);
      if (child === NONE) return this.lose(node, value, base);
      node = child;
      this.count(node, value, base);
    }
    this.self[node] = (this.self[node] ?? 0) + value;
    this.baseSelf[node] = (this.baseSelf[node] ?? 0) + base;
  }

  lose(parent: number, value: number, base: number): void {
    const [before, baseBefore] = this.lost.get(parent) ?? [0, 0];
    this.lost.set(parent, [before + value, baseBefore + base]);
  }

  count(node: number, value: number, base: number): void {
    this.total[node] = (this.total[node] ?? 0) + value;
    this.baseTotal[node] = (this.baseTotal[node] ?? 0) + base;
  }

  weight(node: number): number {
    return Math.abs(this.total[node] ?? 0) + Math.abs(this.baseTotal[node] ?? 0);
  }
}

/** Nodes by weight, the heaviest first. */
class Heaviest {
  private readonly nodes: number[] = [];
  private readonly tree: Tree;
  constructor(tree: Tree) {
    this.tree = tree;
  }
  push(node: number): void {
    const { nodes, tree } = this;
    let at = nodes.length;
    const weight = tree.weight(node);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const above = nodes[up] ?? 0;
      if (tree.weight(above) >= weight) break;
      nodes[at] = above;
      at = up;
    }
    nodes[at] = node;
  }
  pop(): number {
    const { nodes, tree } = this;
    const top = nodes[0] ?? NONE;
    const last = nodes.pop() ?? NONE;
    if (nodes.length === 0) return top;
    const weight = tree.weight(last);
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= nodes.length) break;
      if (child + 1 < nodes.length && tree.weight(nodes[child + 1] ?? 0) > tree.weight(nodes[child] ?? 0)) child++;
      if (tree.weight(nodes[child] ?? 0) <= weight) break;
      nodes[at] = nodes[child] ?? 0;
      at = child;
    }
    nodes[at] = last;
    return top;
  }
}

function* grow({ stacks, value, base, restValue, restBase }: ResolvedStacks): Generator<void, Tree> {
  const tree = new Tree();
  tree.node(NONE, NONE);
  const unknown = Int32Array.of(UNKNOWN);
  let spent = 0;
  for (const [i, stack] of stacks.entries()) {
    tree.add(stack ?? unknown, value[i] ?? 0, base[i] ?? 0);
    spent += stack?.length ?? 1;
    if (spent < PIECE) continue;
    spent = 0;
    yield;
  }
  if (restValue !== 0 || restBase !== 0) {
    tree.count(0, restValue, restBase);
    tree.lose(0, restValue, restBase);
  }
  return tree;
}

/** The heaviest `most` nodes: a parent weighs no less than its children, so it is among them if they are. */
function* choose(tree: Tree, most: number): Generator<void, Uint8Array> {
  const kept = new Uint8Array(tree.parents.length);
  if (kept.length <= most) return kept.fill(1);
  const heap = new Heaviest(tree);
  heap.push(0);
  let spent = 0;
  for (let count = 0; count < most; count++) {
    const node = heap.pop();
    kept[node] = 1;
    for (let child = tree.firstChild.at(node); child !== NONE; child = tree.sibling.at(child), spent++)
      heap.push(child);
    if (++spent < PIECE / 4) continue;
    spent = 0;
    yield;
  }
  return kept;
}

/** `most`: nodes of the answer. In steps. */
export function* flameNodes(from: ResolvedStacks, most: number): Generator<void, FlameNodes> {
  const tree = yield* grow(from);
  // each node that is kept may have an "(other)" beside it
  const kept = yield* choose(tree, tree.parents.length + tree.lost.size <= most ? most : Math.floor(most / 2));
  const names = [ROOT_NAME, OTHER_NAME];
  const files = ["", ""];
  const places = new Map<number, number>();
  const nameOf = (func: number): number => {
    const found = places.get(func);
    if (found !== undefined) return found;
    const [name = "", file = ""] = (from.functions[func] ?? UNKNOWN_NAME).split("\t", 2);
    places.set(func, names.length);
    names.push(name);
    files.push(file);
    return names.length - 1;
  };
  const depth: number[] = [];
  const frame: number[] = [];
  const [self, total, baseSelf, baseTotal]: [number[], number[], number[], number[]] = [[], [], [], []];
  const put = (level: number, name: number, one: readonly [number, number, number, number]): void => {
    depth.push(level);
    frame.push(name);
    self.push(one[0]);
    total.push(one[1]);
    baseSelf.push(one[2]);
    baseTotal.push(one[3]);
  };
  let merged = 0;
  let spent = 0;
  // an "(other)" waits on the stack as the complement of its parent
  const open: [node: number, level: number][] = [[0, 0]];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [node, level] = next;
    if (node < 0) {
      const [value, base] = tree.lost.get(~node) ?? [0, 0];
      put(level, 1, [value, value, base, base]);
      continue;
    }
    const name = node === 0 ? 0 : nameOf(tree.functions.at(node));
    put(level, name, [
      tree.self[node] ?? 0,
      tree.total[node] ?? 0,
      tree.baseSelf[node] ?? 0,
      tree.baseTotal[node] ?? 0,
    ]);
    const children: number[] = [];
    for (let child = tree.firstChild.at(node); child !== NONE; child = tree.sibling.at(child), spent++)
      if (kept[child] === 1) children.push(child);
      else tree.lose(node, tree.total[child] ?? 0, tree.baseTotal[child] ?? 0);
    if (tree.lost.has(node)) open.push([~node, level + 1]);
    children.sort((a, b) => compare(from.functions, tree.functions.at(b), tree.functions.at(a)));
    for (const child of children) open.push([child, level + 1]);
    if (++spent < PIECE / 4) continue;
    spent = 0;
    yield;
  }
  for (const one of kept) if (one === 0) merged++;
  return { names, files, depth, frame, self, total, baseSelf, baseTotal, merged };
}

/** By their texts, so that two graphs of one service look alike. */
const compare = (functions: readonly string[], a: number, b: number): number => {
  const [first, second] = [functions[a] ?? "", functions[b] ?? ""];
  return first < second ? -1 : first > second ? 1 : 0;
};
