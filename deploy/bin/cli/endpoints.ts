/** `coroot endpoints SERVICE`: what a service's requests are to, estimated from those that the node agents sampled. */
import { askJson, type Fields, isFields, listOf, numberOf, serverAddress, textOf } from "./ask.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { number, table } from "./table.ts";
import { oneLine, since } from "./text.ts";

const HOUR_MS = 3_600_000;
const print = (text: string): void => void process.stdout.write(`${text}\n`);

const rate = (row: Fields, name: string): string =>
  `${number(numberOf(row, name), 2)} ± ${number(numberOf(row, `${name}Error`), 2)}`;
const percent = (row: Fields, name: string): string =>
  `${number((numberOf(row, name) ?? 0) * 100, 1)} ± ${number((numberOf(row, `${name}Error`) ?? 0) * 100, 1)}`;

export const endpoints = async (values: Values): Promise<number> => {
  const [service, ...more] = values.operands;
  if (service === undefined || more.length > 0)
    throw new CommandError(EXIT.usage, "endpoints takes the name of one service", "see: coroot endpoints --help");
  const now = Date.now();
  const until = values.text("until");
  const to = until === undefined ? now : since("until", until, now);
  const begin = values.text("since");
  const from = begin === undefined ? to - HOUR_MS : since("since", begin, now);
  const parameters = new URLSearchParams({ service, from: String(from), to: String(to) });
  const limit = values.number("limit");
  if (limit !== undefined) parameters.set("limit", String(limit));
  const answer = await askJson(serverAddress(values.text("server")), `/api/traces/endpoints?${parameters.toString()}`, {
    timeoutMs: 60_000,
  });
  if (!isFields(answer) || !Array.isArray(answer["endpoints"]))
    throw new CommandError(EXIT.failure, "the answer has no endpoints", "is this a Coroot server?");
  const found = listOf(answer, "endpoints");
  if (values.on("json")) for (const one of found) print(JSON.stringify(one));
  else if (found.length === 0) print(`no request of ${service} was sampled`);
  else {
    print(
      table<Fields>(
        [
          { title: "REQ/S", cell: (row) => rate(row, "perSecond"), right: true },
          { title: "FAILED %", cell: (row) => percent(row, "failed"), right: true },
          { title: "P50 MS", cell: (row) => number(numberOf(row, "p50"), 2), right: true },
          { title: "P95 MS", cell: (row) => number(numberOf(row, "p95"), 2), right: true },
          { title: "P99 MS", cell: (row) => number(numberOf(row, "p99"), 2), right: true },
          { title: "SAMPLES", cell: (row) => textOf(row, "samples"), right: true },
          { title: "SIDE", cell: (row) => textOf(row, "kind") },
          { title: "SYSTEM", cell: (row) => oneLine(textOf(row, "system")) },
          { title: "ENDPOINT", cell: (row) => oneLine(textOf(row, "endpoint")) },
        ],
        found,
      ),
    );
    print(
      `estimated from a sample: ± is half of the 95 % interval; what is not listed has fewer than ${number(numberOf(answer, "unseenPerSecond"), 2)} req/s`,
    );
  }
  return EXIT.ok;
};
