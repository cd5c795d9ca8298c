/** The commands that show what a running server knows: `incidents`, `services`, `agents`. Read only. */
import { serviceName, type ServiceId } from "../../../schemas/service.ts";
import { askRows, type Fields, fieldsOf, listOf, numberOf, serverAddress, textOf } from "./ask.ts";
import { EXIT, type Values } from "./command.ts";
import { ago, type Column, number, table } from "./table.ts";

const print = (text: string): void => void process.stdout.write(`${text}\n`);

const show = async (
  values: Values,
  path: string,
  columns: (now: number) => readonly Column<Fields>[],
  empty: string,
  keep: (row: Fields) => boolean = () => true,
): Promise<number> => {
  const answer = await askRows(serverAddress(values.text("server")), path);
  const rows = answer.rows.filter(keep);
  if (values.on("json")) for (const row of rows) print(JSON.stringify(row));
  else print(rows.length === 0 ? empty : table(columns(answer.nowMs), rows));
  return EXIT.ok;
};

const short = (id: string): string => (id.includes("/") ? serviceName(id as ServiceId) : id);
const percent = (ratio: number | null): string =>
  ratio === null ? "" : `${(ratio * 100).toFixed(ratio < 0.1 ? 1 : 0)} %`;

const incidentColumns = (now: number): readonly Column<Fields>[] => [
  { title: "INCIDENT", cell: (row) => textOf(row, "id") },
  { title: "STATUS", cell: (row) => textOf(row, "status") },
  { title: "SEVERITY", cell: (row) => textOf(row, "severity") },
  { title: "SERVICE", cell: (row) => short(textOf(row, "service")) },
  { title: "SINCE", cell: (row) => ago(numberOf(row, "openedAt") ?? numberOf(row, "suspectedAt"), now), right: true },
  { title: "CAUSE", cell: (row) => cause(row) },
  { title: "HEADLINE", cell: (row) => textOf(row, "headline") },
];
const cause = (row: Fields): string => {
  const found = fieldsOf(row, "cause");
  return textOf(found, "service") === "" ? "" : `${short(textOf(found, "service"))}: ${textOf(found, "kind")}`;
};

const serviceColumns = (now: number): readonly Column<Fields>[] => [
  { title: "SERVICE", cell: (row) => textOf(row, "name") },
  { title: "KIND", cell: (row) => textOf(row, "kind") },
  { title: "STATUS", cell: (row) => textOf(row, "status") },
  { title: "REQ/S", cell: (row) => number(numberOf(fieldsOf(row, "inbound"), "requestsPerSecond")), right: true },
  { title: "ERRORS", cell: (row) => percent(numberOf(fieldsOf(row, "inbound"), "errorRatio")), right: true },
  { title: "P95 MS", cell: (row) => number(numberOf(fieldsOf(row, "inbound"), "p95Ms")), right: true },
  { title: "CPU", cell: (row) => number(numberOf(row, "cpuCores"), 2), right: true },
  { title: "INSTANCES", cell: (row) => textOf(row, "instances"), right: true },
  { title: "SEEN", cell: (row) => ago(numberOf(row, "lastSeen"), now), right: true },
  { title: "REASON", cell: (row) => textOf(row, "reason") },
];

/** "tls (no OpenSSL found), java (…)" of what is not on. */
export const featuresOff = (agent: Fields): readonly { readonly feature: string; readonly reason: string }[] =>
  listOf(agent, "capabilities")
    .filter((one) => textOf(one, "state") !== "on")
    .map((one) => ({ feature: textOf(one, "feature"), reason: textOf(one, "reason") || textOf(one, "state") }));

const agentColumns = (now: number): readonly Column<Fields>[] => [
  { title: "AGENT", cell: (row) => textOf(row, "id") },
  { title: "NODE", cell: (row) => textOf(row, "node") },
  { title: "CLUSTER", cell: (row) => textOf(row, "cluster") },
  { title: "STATE", cell: (row) => textOf(row, "state") },
  { title: "SEEN", cell: (row) => ago(numberOf(row, "lastFrameAt"), now), right: true },
  { title: "INSTANCES", cell: (row) => textOf(row, "instances"), right: true },
  { title: "EDGES", cell: (row) => textOf(row, "edges"), right: true },
  {
    title: "OFF",
    cell: (row) =>
      featuresOff(row)
        .map((one) => one.feature)
        .join(", "),
  },
  {
    title: "TROUBLE",
    cell: (row) =>
      listOf(row, "inspections")
        .filter((one) => ["warning", "critical"].includes(textOf(one, "status")))
        .map((one) => textOf(one, "message"))
        .join("; "),
  },
];

export const incidents = (values: Values): Promise<number> =>
  show(
    values,
    "/api/incidents",
    incidentColumns,
    values.on("all") ? "no incident is recorded" : "no incident is open",
    (row) => values.on("all") || !["resolved", "blip"].includes(textOf(row, "status")),
  );

export const services = (values: Values): Promise<number> =>
  show(values, "/api/services", serviceColumns, "no service is observed yet");

export const agents = (values: Values): Promise<number> =>
  show(values, "/api/agents", agentColumns, "no agent has connected yet");
