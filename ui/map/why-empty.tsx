/** Why the map has nothing to show, from what the agents say about themselves. */
import { Empty } from "../kit/signs.tsx";
import { isAgentView } from "../live/entries.ts";
import { useEntries, useTopic } from "../live/hooks.ts";
import { plural } from "../names.ts";

export const WhyEmpty = ({ services }: { readonly services: number }) => {
  const state = useTopic("agents");
  const agents = [...useEntries(state, isAgentView).values()];
  if (!state.ready) return <Empty title="Loading…" />;
  if (agents.length === 0)
    return (
      <Empty title="No agent has connected yet">
        The map draws itself from what node agents observe. Start one with this server's address and key (
        <code>coroot node-agent</code>); it appears here within seconds.
      </Empty>
    );
  const connected = agents.filter((agent) => agent.state === "connected");
  if (connected.length === 0)
    return (
      <Empty title={`${plural(agents.length, "agent")} known, none connected`}>
        Last seen: {agents.map((agent) => agent.node).join(", ")}. See Agents for when they were last heard.
      </Empty>
    );
  const off = connected.flatMap((agent) =>
    agent.capabilities
      .filter((capability) => capability.state !== "on")
      .map((capability) => ({ node: agent.node, ...capability })),
  );
  return (
    <Empty title={services === 0 ? "No services discovered yet" : "No traffic between services seen yet"}>
      {plural(connected.length, "agent")} connected. {services === 0 ? "The first services" : "Links"} appear with the
      first observed requests, usually within two seconds.
      {off.length === 0 ? null : (
        <>
          <p>What cannot be observed:</p>
          <ul>
            {off.map((capability) => (
              <li key={`${capability.node}/${capability.feature}`}>
                <b>{capability.feature}</b> on {capability.node}: {capability.reason || capability.state}
              </li>
            ))}
          </ul>
        </>
      )}
    </Empty>
  );
};
