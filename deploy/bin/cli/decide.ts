/** What a person decides about incidents: `coroot ack` and `coroot silence`. */
import { askJson, askRows, type Fields, isFields, numberOf, serverAddress, textOf } from "./ask.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { type Column, table } from "./table.ts";

const print = (text: string): void => void process.stdout.write(`${text}\n`);

export const ack = async (values: Values): Promise<number> => {
  const [incident, ...more] = values.operands;
  if (incident === undefined || more.length > 0)
    throw new CommandError(EXIT.usage, "ack takes the id of one incident", "see: coroot incidents");
  const path = `/api/incidents/${encodeURIComponent(incident)}/acknowledge`;
  const server = serverAddress(values.text("server"));
  if (values.on("undo")) await askJson(server, path, { method: "DELETE" });
  else await askJson(server, path, { method: "POST", body: { note: values.text("note") ?? "" } });
  print(`${incident} is ${values.on("undo") ? "not acknowledged any more" : "acknowledged: only its end is alerted"}`);
  return EXIT.ok;
};

const columns: readonly Column<Fields>[] = [
  { title: "SILENCE", cell: (row) => textOf(row, "id") },
  { title: "MATCH", cell: (row) => textOf(row, "match") },
  { title: "UNTIL", cell: (row) => new Date(numberOf(row, "until") ?? 0).toISOString() },
  { title: "BY", cell: (row) => textOf(row, "by") },
  { title: "REASON", cell: (row) => textOf(row, "reason") },
];

const usage = (message: string): CommandError => new CommandError(EXIT.usage, message, "see: coroot silence --help");

export const silence = async (values: Values): Promise<number> => {
  const [what = "list", operand] = values.operands;
  const server = serverAddress(values.text("server"));
  switch (what) {
    case "list": {
      const { rows } = await askRows(server, "/api/silences");
      if (values.on("json")) for (const row of rows) print(JSON.stringify(row));
      else print(rows.length === 0 ? "nothing is silenced" : table(columns, rows));
      return EXIT.ok;
    }
    case "add": {
      const minutes = values.number("minutes");
      const reason = values.text("reason");
      if (operand === undefined) throw usage("silence add needs a service id (* stands for anything) or an incident");
      if (minutes === undefined || reason === undefined) throw usage("silence add needs --minutes N and --reason TEXT");
      const answer = await askJson(server, "/api/silences", {
        method: "POST",
        body: { match: operand, minutes, reason },
      });
      const until = isFields(answer) ? new Date(numberOf(answer, "until") ?? 0).toISOString() : "?";
      print(`${operand} is silenced until ${until} (${isFields(answer) ? textOf(answer, "id") : "?"})`);
      return EXIT.ok;
    }
    case "remove":
      if (operand === undefined) throw usage("silence remove needs the id of a silence");
      await askJson(server, `/api/silences/${encodeURIComponent(operand)}`, { method: "DELETE" });
      print(`${operand} is removed`);
      return EXIT.ok;
    default:
      throw usage(`silence has no "${what}"`);
  }
};
