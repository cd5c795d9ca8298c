/**
 * A PromQL expression as data: what `parse.ts` gives and `evaluate.ts` takes. Brackets are gone, times are milliseconds,
 * every node knows where in the text it begins. Pure types, and what follows from a node alone.
 */
export type MatchOperator = "=" | "!=" | "=~" | "!~";

export interface Matcher {
  readonly name: string;
  readonly operator: MatchOperator;
  readonly value: string;
}

export const METRIC_NAME = "__name__";

/** Which moment is looked at instead of the evaluation's own. */
export interface Moment {
  readonly offsetMs: number;
  readonly at: number | "start" | "end" | null;
}

export interface NumberNode {
  readonly kind: "number";
  readonly value: number;
  readonly from: number;
}
export interface TextNode {
  readonly kind: "text";
  readonly value: string;
  readonly from: number;
}
export interface SelectorNode extends Moment {
  readonly kind: "selector";
  readonly matchers: readonly Matcher[];
  readonly from: number;
}
export interface RangeNode extends Moment {
  readonly kind: "range";
  readonly matchers: readonly Matcher[];
  readonly rangeMs: number;
  readonly from: number;
}
export interface SubqueryNode extends Moment {
  readonly kind: "subquery";
  readonly body: Expr;
  readonly rangeMs: number;
  /** null: the default resolution */
  readonly stepMs: number | null;
  readonly from: number;
}
export interface NegateNode {
  readonly kind: "negate";
  readonly body: Expr;
  readonly from: number;
}

export type ArithmeticOperator = "+" | "-" | "*" | "/" | "%" | "^" | "atan2";
export type ComparisonOperator = "==" | "!=" | ">" | "<" | ">=" | "<=";
export type SetOperator = "and" | "or" | "unless";
export type BinaryOperator = ArithmeticOperator | ComparisonOperator | SetOperator;

export const isComparison = (operator: BinaryOperator): operator is ComparisonOperator =>
  ["==", "!=", ">", "<", ">=", "<="].includes(operator);
export const isSet = (operator: BinaryOperator): operator is SetOperator => ["and", "or", "unless"].includes(operator);

export interface Matching {
  readonly on: boolean;
  readonly labels: readonly string[];
  /** which side may have many series per group; "none": one to one */
  readonly many: "none" | "left" | "right";
  /** labels taken over from the other side */
  readonly include: readonly string[];
}

export interface BinaryNode {
  readonly kind: "binary";
  readonly operator: BinaryOperator;
  readonly bool: boolean;
  readonly matching: Matching;
  readonly left: Expr;
  readonly right: Expr;
  readonly from: number;
}

export const AGGREGATIONS = [
  "sum",
  "min",
  "max",
  "avg",
  "count",
  "stddev",
  "stdvar",
  "group",
  "topk",
  "bottomk",
  "quantile",
  "count_values",
] as const;
export type Aggregation = (typeof AGGREGATIONS)[number];

export interface AggregateNode {
  readonly kind: "aggregate";
  readonly operator: Aggregation;
  readonly param: Expr | null;
  readonly body: Expr;
  readonly without: boolean;
  readonly labels: readonly string[];
  readonly from: number;
}
export interface CallNode {
  readonly kind: "call";
  readonly name: string;
  readonly args: readonly Expr[];
  readonly returns: ValueType;
  readonly from: number;
}

export type Expr =
  | NumberNode
  | TextNode
  | SelectorNode
  | RangeNode
  | SubqueryNode
  | NegateNode
  | BinaryNode
  | AggregateNode
  | CallNode;

export type ValueType = "scalar" | "vector" | "matrix" | "string";

export const typeOf = (node: Expr): ValueType => {
  switch (node.kind) {
    case "number":
      return "scalar";
    case "text":
      return "string";
    case "selector":
    case "aggregate":
      return "vector";
    case "range":
    case "subquery":
      return "matrix";
    case "negate":
      return typeOf(node.body);
    case "binary":
      return typeOf(node.left) === "scalar" && typeOf(node.right) === "scalar" ? "scalar" : "vector";
    case "call":
      return node.returns;
  }
};

/** Functions whose result follows the evaluation's time even where all their arguments stand still. */
const FOLLOWS_TIME = new Set(
  "time timestamp predict_linear minute hour month year day_of_week day_of_month day_of_year days_in_month".split(" "),
);

/** Same result at every step: all that it reads is pinned by `@`. */
export const standsStill = (node: Expr): boolean => {
  switch (node.kind) {
    case "number":
    case "text":
      return true;
    case "selector":
    case "range":
    case "subquery":
      return node.at !== null;
    case "negate":
      return standsStill(node.body);
    case "binary":
      return standsStill(node.left) && standsStill(node.right);
    case "aggregate":
      return standsStill(node.body) && (node.param === null || standsStill(node.param));
    case "call":
      return !FOLLOWS_TIME.has(node.name) && node.args.every(standsStill);
  }
};
