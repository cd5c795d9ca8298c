/** Replicas that find each other, over real sockets. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Effect, Exit, Scope } from "effect";
import { afterEach, expect, it } from "vitest";
import { KIND, type ReplicaFrame } from "../../../runtime/cluster/frames.ts";
import { makeMesh, type Mesh, type Replica } from "../../../runtime/cluster/Mesh.ts";
import { until } from "../../cluster/until.ts";

interface Node {
  readonly replica: Replica;
  readonly mesh: Mesh;
  readonly heard: ReplicaFrame[];
  /** how often somebody dialled */
  readonly visits: () => number;
}

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const start = async (name: string, key = "secret"): Promise<Node> => {
  const server: Server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const replica: Replica = { id: name, name, url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/replica` };
  const heard: ReplicaFrame[] = [];
  const scope = Effect.runSync(Scope.make());
  const mesh = await Effect.runPromise(
    makeMesh({
      self: () => replica,
      key,
      version: "0",
      connected: () => undefined,
      closed: () => undefined,
      frame: (_, frame) => void heard.push(frame),
      answer: (_, argument) => Effect.succeed(argument),
    }).pipe(Scope.extend(scope)),
  );
  let visits = 0;
  server.on("upgrade", (request, socket, head) => {
    visits++;
    mesh.upgrade(request, socket, head);
  });
  ends.push(async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void));
    server.closeAllConnections();
    server.close();
  });
  return { replica, mesh, heard, visits: () => visits };
};

const speaksTo = (node: Node, other: Node): boolean =>
  node.mesh.peers().some(({ connected, replica }) => connected && replica.id === other.replica.id);

it("whoever comes is spoken to at once, whatever the list says", async () => {
  const [old, young] = [await start("old"), await start("young")];
  // The one that has just started has read the list; the other one has not, and cannot while the database is away.
  await Effect.runPromise(young.mesh.know([old.replica, young.replica]));
  await until("both ways", 5_000, () => (speaksTo(young, old) && speaksTo(old, young) ? true : undefined));
  expect(old.mesh.send("young", [KIND.leaving])).toBe(true);
  await until("the frame", 5_000, () => (young.heard.length > 0 ? true : undefined));
  // An old list does not end what is connected.
  await Effect.runPromise(old.mesh.know([old.replica]));
  expect(speaksTo(old, young)).toBe(true);
});

it("whoever cannot show the key is not", async () => {
  const [old, stranger] = [await start("old"), await start("stranger", "another")];
  await Effect.runPromise(stranger.mesh.know([old.replica]));
  // It comes again, since it was sent away.
  await until("a second visit", 5_000, () => (old.visits() > 1 ? true : undefined));
  expect(old.mesh.peers()).toEqual([]);
  expect(old.mesh.send("stranger", [KIND.leaving])).toBe(false);
});
