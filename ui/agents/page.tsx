/** Agents: connected or not, what each can see on its node and why not, what it sends, what was lost. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { USED } from "../../schemas/wire/observe.ts";
import type { AgentEntry, AgentInspection } from "../../schemas/wire/page.ts";
import { formatAgo, formatBytes, formatCores, formatCount, formatPercent, formatRate, words } from "../format.ts";
import { FindBox } from "../kit/find-box.tsx";
import { STATUS_RANK } from "../kit/glyphs.ts";
import { Empty, Figure, StatusBadge, StatusSign } from "../kit/signs.tsx";
import { isAgentView } from "../live/entries.ts";
import { useEntries, useNow, useTopic } from "../live/hooks.ts";
import { plural } from "../names.ts";

const lostOf = (agent: AgentEntry): number => Object.values(agent.losses).reduce((sum, count) => sum + count, 0);
const troubled = (agent: AgentEntry): number =>
  Math.max(0, ...agent.inspections.map(({ status }) => STATUS_RANK[status])) * 4 +
  (agent.conflicts > 0 ? 2 : 0) +
  (agent.capabilities.some((each) => each.state !== "on") ? 1 : 0);
const isTrouble = ({ status }: AgentInspection): boolean => status === "warning" || status === "critical";

/** What the agent and its probe use, and what passes by them; only what the agent has told. */
const SelfFigures = ({ self }: { readonly self: AgentEntry["self"] }) => {
  const { cpuCores, probeCpuCores, programsCores, memoryBytes, probeMemoryBytes, kernelBytes } = self;
  const { bytesPerSecond, unknownBytesPerSecond, tlsBlindBytesPerSecond, spoolBytes } = self;
  const used = Object.entries(self).flatMap(([name, share]) => (name.startsWith(USED) ? [share] : []));
  if (cpuCores === undefined) return null;
  return (
    <div className="figures agent-figures">
      <Figure
        label="CPU, cores"
        title={`agent ${formatCores(cpuCores)}, probe ${formatCores(probeCpuCores ?? null)}, its programs in the kernel ${formatCores(programsCores ?? null)} where last measured`}
      >
        {formatCores(cpuCores + (probeCpuCores ?? 0) + (programsCores ?? 0))}
      </Figure>
      <Figure
        label="Memory"
        title={`agent ${formatBytes(memoryBytes ?? null)}, probe ${formatBytes(probeMemoryBytes ?? null)}, its tables in the kernel ${formatBytes(kernelBytes ?? null)}`}
      >
        {formatBytes((memoryBytes ?? 0) + (probeMemoryBytes ?? 0) + (kernelBytes ?? 0))}
      </Figure>
      <Figure label="Fullest table">{used.length === 0 ? "–" : formatPercent(Math.max(...used))}</Figure>
      <Figure label="Spool" title="telemetry on the agent's disk that the server does not have yet">
        {formatBytes(spoolBytes ?? null)}
      </Figure>
      <Figure label="TCP seen">{formatBytes(bytesPerSecond ?? null)}/s</Figure>
      <Figure label="Unknown" title="bytes of connections whose protocol is not known">
        {formatBytes(unknownBytesPerSecond ?? null)}/s
      </Figure>
      <Figure label="Unread TLS" title="bytes within TLS whose plain text is not read">
        {formatBytes(tlsBlindBytesPerSecond ?? null)}/s
      </Figure>
    </div>
  );
};

export const AgentsPage = () => {
  const search = useSearch({ from: "/agents" });
  const navigate = useNavigate();
  const state = useTopic("agents");
  const all = [...useEntries(state, isAgentView).values()];
  const find = (search.find ?? "").toLowerCase();
  const agents = all
    .filter((agent) => `${agent.node} ${agent.id} ${agent.cluster} ${agent.state}`.toLowerCase().includes(find))
    .sort((a, b) => troubled(b) - troubled(a) || a.node.localeCompare(b.node) || a.id.localeCompare(b.id));
  const now = useNow(1000);
  if (!state.ready) return <Empty title={state.error ?? "Loading…"} />;
  if (all.length === 0)
    return (
      <Empty title="No agent has connected yet">
        Start a node agent with this server's address and key (<code>coroot node-agent</code>). It appears here as soon
        as it has said hello, with what it can observe on its machine and what not.
      </Empty>
    );
  return (
    <div className="list-page">
      <div className="toolbar">
        <FindBox
          label="Find an agent"
          value={search.find ?? ""}
          onChange={(text) =>
            void navigate({ to: "/agents", search: { find: text === "" ? undefined : text }, replace: true })
          }
        />
        <span className="quiet num toolbar-count">
          {plural(all.length, "agent")}, {all.filter((agent) => agent.state === "connected").length} connected
        </span>
      </div>
      <div className="agents">
        {agents.map((agent) => (
          <AgentCard key={agent.id} agent={agent} now={now} open={agents.length <= 12} />
        ))}
      </div>
    </div>
  );
};

const AgentCard = ({
  agent,
  now,
  open,
}: {
  readonly agent: AgentEntry;
  readonly now: number;
  readonly open: boolean;
}) => {
  const off = agent.capabilities.filter((each) => each.state !== "on");
  const on = agent.capabilities.filter((each) => each.state === "on");
  const losses = Object.entries(agent.losses).filter(([, count]) => count > 0);
  const failing = agent.inspections.filter(isTrouble);
  const quiet = now - agent.lastFrameAt > 5000;
  return (
    <details className="section agent" open={open} data-agent={agent.id}>
      <summary className="agent-head">
        <StatusBadge status={agent.state === "connected" ? "ok" : "critical"} text={agent.state} />
        <h2>{agent.node}</h2>
        <span className="quiet cut">
          {agent.cluster} · {agent.version} · kernel {agent.kernel}
        </span>
        <span className="spacer" />
        {failing.length > 0 ? (
          <StatusBadge status="warning" text={`${failing.length} of ${agent.inspections.length} failing`} />
        ) : null}
        {off.length > 0 ? <StatusBadge status="warning" text={`${off.length} limited`} /> : null}
      </summary>
      <div className="figures agent-figures">
        <Figure label="Last frame" tone={quiet ? "warning" : undefined}>
          {formatAgo(agent.lastFrameAt, now)}
        </Figure>
        <Figure label="Connected">{agent.state === "connected" ? formatAgo(agent.connectedAt, now) : "–"}</Figure>
        <Figure label="Frames">{formatRate(agent.framesPerSecond)}</Figure>
        <Figure label="Data">{formatBytes(agent.bytesPerSecond)}/s</Figure>
        <Figure
          label="Clock offset"
          title="agent's clock against the server's"
          tone={Math.abs(agent.clockOffsetMs) > 1000 ? "warning" : undefined}
        >
          {`${agent.clockOffsetMs < 0 ? "−" : "+"}${Math.abs(agent.clockOffsetMs).toFixed(Math.abs(agent.clockOffsetMs) < 10 ? 1 : 0)} ms`}
        </Figure>
        <Figure label="Instances">{agent.instances}</Figure>
        <Figure label="Edges">{agent.edges}</Figure>
        <Figure label="Window">{formatCount(agent.window)}</Figure>
        <Figure label="Lost" tone={lostOf(agent) > 0 ? "warning" : undefined}>
          {formatCount(lostOf(agent))}
        </Figure>
        <Figure
          label="Conflicts"
          title="connections refused because they claimed this agent's id"
          tone={agent.conflicts > 0 ? "critical" : undefined}
        >
          {agent.conflicts}
        </Figure>
      </div>
      <SelfFigures self={agent.self} />
      <ul className="capabilities agent-inspections" aria-label="Inspections of the agent">
        {agent.inspections.map((each) => (
          <li key={each.id} data-inspection={each.id}>
            <StatusSign status={each.status} size={10} />
            <b>{each.title}</b>
            <span className="quiet">{each.status}</span>
            <span className={isTrouble(each) ? undefined : "quiet"}>{each.message}</span>
          </li>
        ))}
      </ul>
      {off.length === 0 ? null : (
        <ul className="capabilities">
          {off.map((each) => (
            <li key={each.feature}>
              <StatusSign status={each.state === "off" ? "warning" : "info"} size={10} />
              <b>{words(each.feature)}</b>
              <span className="quiet">{each.state}</span>
              <span>
                {each.reason || "no reason given"}
                {each.errno === 0 ? "" : ` (errno ${each.errno})`}
              </span>
            </li>
          ))}
        </ul>
      )}
      {on.length === 0 ? null : (
        <div className="chips agent-chips" aria-label="Working features">
          {on.map((each) => (
            <span key={each.feature} className="chip" title={each.reason || "on"}>
              <StatusSign status="ok" size={8} /> {words(each.feature)}
            </span>
          ))}
        </div>
      )}
      {losses.length === 0 ? null : (
        <div className="agent-losses">
          {losses.map(([name, count]) => (
            <span key={name} className="num">
              {words(name)} <b className="tone-warning">{formatCount(count)}</b>
            </span>
          ))}
        </div>
      )}
      <div className="quiet mono agent-id">{agent.id}</div>
    </details>
  );
};
