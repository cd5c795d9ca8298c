/**
 * A query's text into `ast.ts`: tokens and nesting by Prometheus' own grammar for editors, types and meaning here. That
 * grammar binds `offset`, `@` and `[…]` to all that stands before them, and a sign to the number behind it; so a chain of
 * operators is read again by precedence. Pure. Anything wrong is a QueryError with the character where it is.
 */
import type { SyntaxNode } from "@lezer/common";
import { parser } from "@prometheus-io/lezer-promql";
import {
  AGGREGATIONS,
  isComparison,
  isSet,
  METRIC_NAME,
  typeOf,
  type Aggregation,
  type BinaryOperator,
  type Expr,
  type Matcher,
  type Matching,
  type MatchOperator,
  type ValueType,
} from "./ast.ts";
import { absentBecause, FUNCTIONS } from "./functions.ts";
import { duration, number, unquote } from "./literals.ts";
import { LIMITS, overLimit, QueryError } from "./QueryError.ts";

type Postfix =
  | { readonly kind: "offset"; readonly ms: number; readonly from: number }
  | { readonly kind: "at"; readonly at: number | "start" | "end"; readonly from: number }
  | { readonly kind: "range"; readonly ms: number; readonly from: number }
  | { readonly kind: "subquery"; readonly ms: number; readonly stepMs: number | null; readonly from: number };

interface Operator {
  readonly kind: "operator";
  readonly operator: BinaryOperator;
  readonly bool: boolean;
  readonly matching: Matching;
  readonly matched: boolean;
  readonly from: number;
}
type Item =
  | { readonly kind: "sign"; readonly negative: boolean; readonly from: number }
  | { readonly kind: "primary"; readonly expr: Expr }
  | Postfix
  | Operator;

const LEVEL: Readonly<Record<BinaryOperator, number>> = {
  or: 1,
  and: 2,
  unless: 2,
  "==": 3,
  "!=": 3,
  ">": 3,
  "<": 3,
  ">=": 3,
  "<=": 3,
  "+": 4,
  "-": 4,
  "*": 5,
  "/": 5,
  "%": 5,
  atan2: 5,
  "^": 6,
};
const POWER = 6;
const CHAINED = new Set([
  "BinaryExpr",
  "UnaryExpr",
  "OffsetExpr",
  "StepInvariantExpr",
  "MatrixSelector",
  "SubqueryExpr",
]);
const isOperator = (text: string): text is BinaryOperator => Object.hasOwn(LEVEL, text);
const isAggregation = (text: string): text is Aggregation => AGGREGATIONS.some((name) => name === text);
const NO_MATCHING: Matching = { on: false, labels: [], many: "none", include: [] };
const TYPE_WORDS: Readonly<Record<ValueType, string>> = {
  scalar: "a scalar",
  vector: "an instant vector",
  matrix: "a range vector",
  string: "a string",
};

const wrong = (from: number, reason: string): QueryError =>
  new QueryError({ kind: "bad_data", reason: `parse error at character ${from + 1}: ${reason}` });

/** What could stand where the grammar gave up inside a node of this name. */
const EXPECTED: Readonly<Record<string, string>> = {
  FunctionCallBody: 'an expression, "," or ")"',
  ParenExpr: 'an operator or ")"',
  LabelMatchers: 'a label matcher, "," or "}"',
  UnquotedLabelMatcher: "a matching operator and a quoted value",
  QuotedLabelMatcher: "a matching operator and a quoted value",
  GroupingLabels: 'a label name, "," or ")"',
  MatrixSelector: 'a duration and "]"',
  SubqueryExpr: 'a duration and "]"',
  DurationExpr: "a duration",
  OffsetDurationExpr: "a duration",
  OffsetExpr: "a duration",
  StepInvariantExpr: "a time, start() or end()",
  BinaryExpr: "an expression",
  UnaryExpr: "an expression",
  AggregateExpr: 'an expression in "( )"',
  AtModifierPreprocessors: '"()"',
  PromQL: "an expression or an operator",
  VectorSelector: "an operator or the end",
};

/** A node's children, without comments. */
const children = (node: SyntaxNode): readonly SyntaxNode[] => {
  const out: SyntaxNode[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling)
    if (child.name !== "LineComment") out.push(child);
  return out;
};

class Reader {
  readonly text: string;
  private depth = 0;
  constructor(text: string) {
    this.text = text;
  }

  of(node: SyntaxNode): string {
    return this.text.slice(node.from, node.to);
  }

  read(): Expr {
    const tree = parser.parse(this.text);
    let firstError: SyntaxNode | null = null;
    tree.iterate({
      enter: (ref) => {
        if (firstError === null && ref.type.isError) firstError = ref.node;
        return firstError === null;
      },
    });
    if (firstError !== null) throw this.unexpected(firstError);
    const [top] = children(tree.topNode);
    if (top === undefined) throw wrong(0, "no expression found");
    return this.expr(top);
  }

  private unexpected(node: SyntaxNode): QueryError {
    const { text } = this;
    if (text.trim() === "") return wrong(0, "no expression found");
    const at = node.from;
    if (at >= text.trimEnd().length)
      return wrong(at, `unexpected end of input, expected ${EXPECTED[node.parent?.name ?? ""] ?? "more"}`);
    const called = /([A-Za-z_:][\w:]*)\s*$/.exec(text.slice(Math.max(0, at - 200), at));
    if (text[at] === "(" && called !== null) return this.unknownFunction(at - called[0].length, called[1] ?? "");
    const found = /^(?:[\w:.]+|\S)/.exec(text.slice(at).trimStart())?.[0] ?? "";
    return wrong(
      at,
      `unexpected ${JSON.stringify(found)}, expected ${EXPECTED[node.parent?.name ?? ""] ?? "something else"}`,
    );
  }

  private unknownFunction(at: number, name: string): QueryError {
    const why = absentBecause(name);
    return wrong(
      at,
      why === null ? `unknown function ${JSON.stringify(name)}` : `function ${name} is not supported: ${why}`,
    );
  }

  private expr(node: SyntaxNode): Expr {
    if (++this.depth > LIMITS.depth) throw overLimit("depth");
    const expr = this.exprOf(node);
    this.depth--;
    return expr;
  }

  private exprOf(node: SyntaxNode): Expr {
    if (CHAINED.has(node.name) || (node.name === "NumberDurationLiteral" && /^[+-]/.test(this.of(node))))
      return this.chain(node);
    return this.primary(node);
  }

  private primary(node: SyntaxNode): Expr {
    const { from } = node;
    switch (node.name) {
      case "ParenExpr": {
        const [inner] = children(node);
        if (inner === undefined) throw wrong(from, "an expression was expected in the brackets");
        return this.expr(inner);
      }
      case "NumberDurationLiteral":
        return { kind: "number", value: this.numberOf(node, this.of(node)), from };
      case "StringLiteral":
        return { kind: "text", value: this.unquoted(node), from };
      case "VectorSelector":
        return { kind: "selector", matchers: this.matchers(node), offsetMs: 0, at: null, from };
      case "FunctionCall":
        return this.call(node);
      case "AggregateExpr":
        return this.aggregate(node);
      case "AnchoredExpr":
      case "SmoothedExpr":
        throw wrong(from, "anchored and smoothed are not supported: they are experimental in Prometheus");
      default:
        throw wrong(from, `unexpected ${JSON.stringify(this.of(node).slice(0, 40))}`);
    }
  }

  private numberOf(node: SyntaxNode, text: string): number {
    const plain = number(text);
    if (plain !== null) return plain;
    const ms = duration(text);
    if (ms === null) throw wrong(node.from, `${JSON.stringify(text)} is no number`);
    return ms / 1000;
  }

  private unquoted(node: SyntaxNode): string {
    const text = unquote(this.of(node));
    if (text === null) throw wrong(node.from, "this quoted text is not closed, or has an escape that there is not");
    return text;
  }

  private labelName(node: SyntaxNode): string {
    return node.name === "QuotedLabelName" ? this.unquoted(node) : this.of(node);
  }

  private matchers(node: SyntaxNode): readonly Matcher[] {
    const out: Matcher[] = [];
    const named = (name: string, from: number): void => {
      if (out.some((matcher) => matcher.name === METRIC_NAME)) throw wrong(from, "the metric's name is given twice");
      out.push({ name: METRIC_NAME, operator: "=", value: name });
    };
    for (const child of children(node)) {
      if (child.name === "Identifier") named(this.of(child), child.from);
      else if (child.name === "LabelMatchers")
        for (const one of children(child)) {
          if (one.name === "QuotedLabelName") {
            named(this.unquoted(one), one.from);
            continue;
          }
          const [label, operator, value] = children(one);
          if (label === undefined || operator === undefined || value === undefined)
            throw wrong(one.from, "a label, an operator and a quoted value were expected");
          const name = this.labelName(label);
          if (name === METRIC_NAME && this.of(operator) === "=" && out.some((m) => m.name === METRIC_NAME))
            throw wrong(one.from, "the metric's name is given twice");
          out.push({ name, operator: this.of(operator) as MatchOperator, value: this.unquoted(value) });
        }
    }
    if (!out.some(needsSomething))
      throw wrong(node.from, "a selector must contain at least one matcher that does not match the empty text");
    return out;
  }

  private call(node: SyntaxNode): Expr {
    const [identifier, body] = children(node);
    const name = identifier === undefined ? "" : this.of(identifier);
    const signature = FUNCTIONS.get(name);
    if (signature === undefined || body === undefined) throw this.unknownFunction(node.from, name);
    const args = children(body).map((child) => this.expr(child));
    const { args: wanted, optional, variadic } = signature;
    const least = wanted.length - optional - (variadic ? 1 : 0);
    if (args.length < least || (!variadic && args.length > wanted.length))
      throw wrong(
        node.from,
        `${name} takes ${optional > 0 || variadic ? "at least " : ""}${least} arguments, ${args.length} are given`,
      );
    args.forEach((arg, i) =>
      this.mustBe(arg, wanted[Math.min(i, wanted.length - 1)] ?? "vector", `argument ${i + 1} of ${name}`),
    );
    return { kind: "call", name, args, returns: signature.returns, from: node.from };
  }

  private mustBe(expr: Expr, wanted: ValueType, what: string): void {
    const found = typeOf(expr);
    if (found !== wanted) throw wrong(expr.from, `${what} must be ${TYPE_WORDS[wanted]}, this is ${TYPE_WORDS[found]}`);
  }

  private aggregate(node: SyntaxNode): Expr {
    const parts = children(node);
    const operator = this.of(parts.find(({ name }) => name === "AggregateOp") ?? node).toLowerCase();
    if (!isAggregation(operator))
      throw wrong(node.from, `${operator} is not supported: it is experimental in Prometheus`);
    const modifier = parts.find(({ name }) => name === "AggregateModifier");
    const body = parts.find(({ name }) => name === "FunctionCallBody");
    const args = body === undefined ? [] : children(body).map((child) => this.expr(child));
    const wanted: ValueType[] =
      operator === "count_values"
        ? ["string", "vector"]
        : ["topk", "bottomk", "quantile"].includes(operator)
          ? ["scalar", "vector"]
          : ["vector"];
    if (args.length !== wanted.length)
      throw wrong(node.from, `${operator} takes ${wanted.length} arguments, ${args.length} are given`);
    args.forEach((arg, i) => this.mustBe(arg, wanted[i] ?? "vector", `argument ${i + 1} of ${operator}`));
    const last = args.at(-1);
    if (last === undefined) throw wrong(node.from, `${operator} takes ${wanted.length} arguments, none is given`);
    const [word, grouping] = modifier === undefined ? [] : children(modifier);
    return {
      kind: "aggregate",
      operator,
      param: args.length > 1 ? (args[0] ?? null) : null,
      body: last,
      without: word?.name === "Without",
      labels: grouping === undefined ? [] : children(grouping).map((label) => this.labelName(label)),
      from: node.from,
    };
  }

  /** Items of a chain in the order of the text: what the brackets of the editor's grammar hide. */
  private flatten(node: SyntaxNode, out: Item[]): void {
    if (++this.depth > LIMITS.depth) throw overLimit("depth");
    this.flattenOf(node, out);
    this.depth--;
  }

  private flattenOf(node: SyntaxNode, out: Item[]): void {
    const { from } = node;
    const parts = children(node);
    const [first, second, third] = parts;
    switch (node.name) {
      case "BinaryExpr": {
        const last = parts.at(-1);
        if (first === undefined || last === undefined) throw wrong(from, "two expressions were expected");
        this.flatten(first, out);
        out.push(this.operator(parts.slice(1, -1), from));
        this.flatten(last, out);
        return;
      }
      case "UnaryExpr":
        if (first === undefined || second === undefined) throw wrong(from, "an expression was expected");
        out.push({ kind: "sign", negative: this.of(first) === "-", from });
        this.flatten(second, out);
        return;
      case "OffsetExpr":
        if (first === undefined || third === undefined) throw wrong(from, "a duration was expected");
        this.flatten(first, out);
        out.push({ kind: "offset", ms: this.durationOf(third), from: second?.from ?? from });
        return;
      case "StepInvariantExpr":
        if (first === undefined || third === undefined) throw wrong(from, "a time was expected");
        this.flatten(first, out);
        out.push({ kind: "at", at: this.moment(third), from: second?.from ?? from });
        return;
      case "MatrixSelector":
        if (first === undefined || second === undefined) throw wrong(from, "a duration was expected");
        this.flatten(first, out);
        out.push({ kind: "range", ms: this.positive(second), from: second.from });
        return;
      case "SubqueryExpr":
        if (first === undefined || second === undefined) throw wrong(from, "a duration was expected");
        this.flatten(first, out);
        out.push({
          kind: "subquery",
          ms: this.positive(second),
          stepMs: third === undefined ? null : this.positive(third),
          from: second.from,
        });
        return;
      case "NumberDurationLiteral": {
        const signed = /^([+-])\s*(.*)$/s.exec(this.of(node));
        if (signed === null) break;
        out.push({ kind: "sign", negative: signed[1] === "-", from });
        out.push({ kind: "primary", expr: { kind: "number", value: this.numberOf(node, signed[2] ?? ""), from } });
        return;
      }
      default:
    }
    out.push({ kind: "primary", expr: this.expr(node) });
  }

  private operator(parts: readonly SyntaxNode[], from: number): Operator {
    const [symbol, ...modifiers] = parts;
    const text = symbol === undefined ? "" : this.of(symbol).toLowerCase();
    if (!isOperator(text)) throw wrong(symbol?.from ?? from, `operator ${text} is not supported`);
    const clause = modifiers.find(({ name }) => name === "MatchingModifierClause");
    const fill = modifiers.find(({ name }) => name === "FillModifier");
    if (fill !== undefined) throw wrong(fill.from, "fill is not supported: it is experimental in Prometheus");
    return {
      kind: "operator",
      operator: text,
      bool: modifiers.some(({ name }) => name === "BoolModifier"),
      matching: clause === undefined ? NO_MATCHING : this.matching(clause),
      matched: clause !== undefined,
      from: symbol?.from ?? from,
    };
  }

  private matching(clause: SyntaxNode): Matching {
    const [word, grouping, group, include] = children(clause);
    const names = (node: SyntaxNode | undefined): readonly string[] =>
      node === undefined ? [] : children(node).map((label) => this.labelName(label));
    const on = word?.name === "On";
    const labels = names(grouping);
    const included = names(include);
    const both = included.find((label) => labels.includes(label));
    if (on && both !== undefined)
      throw wrong(clause.from, `label ${JSON.stringify(both)} must not be both in on and in a group modifier`);
    const many = group === undefined ? "none" : group.name === "GroupLeft" ? "left" : "right";
    return { on, labels, many, include: included };
  }

  private durationOf(node: SyntaxNode): number {
    const signs = /^[\s(]*([+-]?)[\s(]*([\w.]+)[\s)]*$/.exec(this.of(node));
    const text = signs?.[2] ?? "";
    const seconds = number(text);
    const ms = duration(text) ?? (seconds === null ? null : Math.round(seconds * 1000));
    if (signs === null || ms === null || !Number.isFinite(ms))
      throw wrong(node.from, `${JSON.stringify(this.of(node).slice(0, 40))} is no duration that is supported here`);
    return signs[1] === "-" ? -ms : ms;
  }

  private positive(node: SyntaxNode): number {
    const ms = this.durationOf(node);
    if (!(ms > 0)) throw wrong(node.from, "a duration must be greater than 0");
    return ms;
  }

  private moment(node: SyntaxNode): number | "start" | "end" {
    const text = this.of(node).replaceAll(/\s/g, "").toLowerCase();
    if (text.startsWith("start")) return "start";
    if (text.startsWith("end")) return "end";
    const seconds = this.numberOf(node, text);
    if (!Number.isFinite(seconds)) throw wrong(node.from, `${JSON.stringify(text)} is no time`);
    return Math.round(seconds * 1000);
  }

  private chain(node: SyntaxNode): Expr {
    const items: Item[] = [];
    this.flatten(node, items);
    let next = 0;
    const operand = (): Expr => {
      const item = items[next++];
      if (item?.kind === "sign") {
        if (++this.depth > LIMITS.depth) throw overLimit("depth");
        const body = binary(POWER);
        this.depth--;
        return this.signed(body, item.negative, item.from);
      }
      if (item?.kind !== "primary") throw wrong(item?.from ?? node.from, "an expression was expected");
      let expr = item.expr;
      for (let after = items[next]; after !== undefined && isPostfix(after); after = items[++next])
        expr = this.modified(expr, after);
      return expr;
    };
    const binary = (least: number): Expr => {
      let left = operand();
      for (let item = items[next]; item?.kind === "operator"; item = items[next]) {
        const level = LEVEL[item.operator];
        if (level < least) break;
        next++;
        left = this.joined(left, item, binary(level === POWER ? level : level + 1));
      }
      return left;
    };
    return binary(0);
  }

  private signed(body: Expr, negative: boolean, from: number): Expr {
    const type = typeOf(body);
    if (type !== "scalar" && type !== "vector")
      throw wrong(from, `a sign stands before a scalar or an instant vector, this is ${TYPE_WORDS[type]}`);
    if (!negative) return body;
    return body.kind === "number" ? { ...body, value: -body.value, from } : { kind: "negate", body, from };
  }

  private modified(expr: Expr, postfix: Postfix): Expr {
    const { from } = postfix;
    switch (postfix.kind) {
      case "range":
        if (expr.kind !== "selector") throw wrong(from, "a range is only allowed for a selector");
        if (expr.offsetMs !== 0 || expr.at !== null)
          throw wrong(from, "offset and @ stand behind the range, not before it");
        return { ...expr, kind: "range", rangeMs: postfix.ms };
      case "subquery":
        if (typeOf(expr) !== "vector")
          throw wrong(from, `a subquery needs an instant vector, this is ${TYPE_WORDS[typeOf(expr)]}`);
        return {
          kind: "subquery",
          body: expr,
          rangeMs: postfix.ms,
          stepMs: postfix.stepMs,
          offsetMs: 0,
          at: null,
          from: expr.from,
        };
      case "offset":
      case "at":
        if (expr.kind !== "selector" && expr.kind !== "range" && expr.kind !== "subquery")
          throw wrong(from, `${postfix.kind === "at" ? "@" : "offset"} must stand behind a selector or a subquery`);
        if (postfix.kind === "at" ? expr.at !== null : expr.offsetMs !== 0)
          throw wrong(from, `${postfix.kind === "at" ? "@" : "offset"} is given twice`);
        return postfix.kind === "at" ? { ...expr, at: postfix.at } : { ...expr, offsetMs: postfix.ms };
    }
  }

  private joined(left: Expr, item: Operator, right: Expr): Expr {
    const { operator, bool, matching, matched, from } = item;
    for (const side of [left, right])
      if (!["scalar", "vector"].includes(typeOf(side)))
        throw wrong(side.from, `${operator} joins scalars and instant vectors, this is ${TYPE_WORDS[typeOf(side)]}`);
    const scalars = [left, right].filter((side) => typeOf(side) === "scalar").length;
    if (bool && !isComparison(operator)) throw wrong(from, "bool is only allowed with a comparison");
    if (scalars === 2 && isComparison(operator) && !bool) throw wrong(from, "a comparison of scalars needs bool");
    if (scalars > 0 && isSet(operator)) throw wrong(from, `${operator} is not allowed with a scalar`);
    if (scalars > 0 && matched && (matching.labels.length > 0 || matching.many !== "none"))
      throw wrong(from, "labels are matched only between instant vectors");
    if (isSet(operator) && matching.many !== "none") throw wrong(from, `no grouping is allowed for ${operator}`);
    return { kind: "binary", operator, bool, matching, left, right, from };
  }
}

const isPostfix = (item: Item): item is Postfix =>
  item.kind === "offset" || item.kind === "at" || item.kind === "range" || item.kind === "subquery";

/** A pattern, or an alternative of one, of which every part may be left out. Not tried on a text: it may be hostile. */
const LEAVES_ALL_OUT = /^\^?(?:(?:\\.|\[[^\]]*\]|[^*?\\[])[*?]\??)*\$?$/s;
const matchesEmpty = (pattern: string): boolean => pattern.split("|").some((part) => LEAVES_ALL_OUT.test(part));

/** Does it keep out series that lack the label? Of a pattern that hides it in brackets it is believed. */
const needsSomething = ({ operator, value }: Matcher): boolean => {
  if (operator === "=") return value !== "";
  if (operator === "!=") return value === "";
  return matchesEmpty(value) === (operator === "!~");
};

/** Throws QueryError. */
export const parse = (text: string): Expr => {
  if (text.length > LIMITS.length) throw overLimit("length", text.length);
  return new Reader(text).read();
};

/** The matchers of a text that is one selector, as `match[]` wants it. Throws QueryError. */
export const parseSelector = (text: string): readonly Matcher[] => {
  const expr = parse(text);
  if (expr.kind !== "selector" || expr.at !== null || expr.offsetMs !== 0)
    throw wrong(0, "one selector was expected, without modifiers");
  return expr.matchers;
};
