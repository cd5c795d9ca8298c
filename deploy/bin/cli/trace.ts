/** `coroot trace ID`: one trace of a running server as a waterfall: who called whom, when, and where the time went. */
import { askJson, type Fields, isFields, listOf, numberOf, serverAddress, textOf } from "./ask.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { type Column, number, table } from "./table.ts";
import { instant, oneLine } from "./text.ts";

const BAR = 24;
const MOST_INDENT = 20;

const print = (text: string): void => void process.stdout.write(`${text}\n`);

interface Placed {
  readonly span: Fields;
  readonly depth: number;
}

/** Each span below its parent, in the order of their beginning; one whose parent is not there stands as a root. */
export const tree = (spans: readonly Fields[]): readonly Placed[] => {
  const ids = new Set(spans.map((span) => textOf(span, "spanId")));
  const children = new Map<string, Fields[]>();
  const roots: Fields[] = [];
  for (const span of spans) {
    const parent = textOf(span, "parentId");
    if (!ids.has(parent) || parent === textOf(span, "spanId")) roots.push(span);
    else children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const placed: Placed[] = [];
  const seen = new Set<Fields>();
  const place = (from: readonly Fields[]): void => {
    const waiting: Placed[] = from.toReversed().map((span) => ({ span, depth: 0 }));
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { span, depth } = next;
      if (seen.has(span)) continue;
      seen.add(span);
      placed.push(next);
      for (const child of (children.get(textOf(span, "spanId")) ?? []).toReversed())
        waiting.push({ span: child, depth: depth + 1 });
    }
  };
  place(roots);
  // spans that call each other in a circle hang on no root
  place(spans);
  return placed;
};

const bar = (span: Fields, wholeMs: number): string => {
  const at = (ms: number): number => Math.round((ms / Math.max(wholeMs, 1e-6)) * BAR);
  const offset = numberOf(span, "offsetMs") ?? 0;
  const from = Math.min(BAR - 1, at(offset));
  const to = Math.min(BAR, Math.max(from + 1, at(offset + (numberOf(span, "durationMs") ?? 0))));
  return `|${" ".repeat(from)}${"=".repeat(to - from)}${" ".repeat(BAR - to)}|`;
};

const what = ({ span, depth }: Placed): string => {
  const peer = textOf(span, "peer");
  const failed = textOf(span, "status") === "error";
  return [
    `${"  ".repeat(Math.min(depth, MOST_INDENT))}${oneLine(textOf(span, "service"))}: ${oneLine(textOf(span, "name"))}`,
    ...(peer === "" ? [] : [`-> ${oneLine(peer)}`]),
    ...(failed ? [`FAILED ${oneLine(textOf(span, "statusMessage"))}`.trim()] : []),
  ].join("  ");
};

export const trace = async (values: Values): Promise<number> => {
  const [id, ...more] = values.operands;
  if (id === undefined || more.length > 0)
    throw new CommandError(EXIT.usage, "trace takes the id of one trace", "see: coroot trace --help");
  const answer = await askJson(serverAddress(values.text("server")), `/api/traces/${encodeURIComponent(id)}`, {
    timeoutMs: 60_000,
  });
  if (!isFields(answer) || !Array.isArray(answer["spans"]))
    throw new CommandError(EXIT.failure, "the answer has no spans", "is this a Coroot server?");
  const spans = listOf(answer, "spans");
  if (values.on("json")) for (const span of spans) print(JSON.stringify(span));
  else {
    const whole = numberOf(answer, "durationMs") ?? 0;
    const failed = spans.filter((span) => textOf(span, "status") === "error").length;
    const services = new Set(spans.map((span) => textOf(span, "service"))).size;
    print(
      `trace ${textOf(answer, "traceId")}, ${instant(numberOf(answer, "at") ?? 0)} UTC, ${number(whole, 2)} ms: ${spans.length} spans of ${services} services, ${failed} failed`,
    );
    const milliseconds = (name: string) => (row: Placed) => number(numberOf(row.span, name), 2);
    const columns: readonly Column<Placed>[] = [
      { title: "AT MS", cell: milliseconds("offsetMs"), right: true },
      { title: "TOOK MS", cell: milliseconds("durationMs"), right: true },
      { title: "ITSELF MS", cell: milliseconds("selfMs"), right: true },
      { title: "", cell: ({ span }) => bar(span, whole) },
      { title: "SPAN", cell: what },
    ];
    print(table(columns, tree(spans)));
  }
  if (answer["truncated"] === true)
    process.stderr.write(`there are more: only the first ${spans.length} spans are shown\n`);
  return EXIT.ok;
};
