/** Boards of other replicas: what changed since the last answer, and what a replica that went away leaves behind. */
import { it } from "@effect/vitest";
import { Effect, TestClock } from "effect";
import { describe, expect } from "vitest";
import { Board } from "../../../runtime/actor/Board.ts";
import { BoardChanges, makeBoardFeed, type BoardsQuestion } from "../../../runtime/cluster/BoardFeed.ts";
import type { PeerState } from "../../../runtime/cluster/Mesh.ts";

const board = (shown: ReadonlyMap<string, unknown> = new Map()): Board => new Board(() => shown);
const peer = (connected: boolean, lostAt: number | null): PeerState => ({
  replica: { id: "b", name: "b", url: "" },
  connected,
  lostAt,
  refusals: 0,
  dead: false,
});

describe("boards of other replicas", () => {
  it.effect("are fetched whole once, then what changed and what is gone", () =>
    Effect.gen(function* () {
      const shown = new Map<string, unknown>([["service/x", { rate: 1 }]]);
      const theirs = board(shown);
      theirs.publish("services", "y", 1);
      const changes = new BoardChanges(theirs, ["services"], 7);
      const asked: number[] = [];
      const ours = board();
      let state = peer(true, null);
      const fresh = yield* makeBoardFeed({
        board: ours,
        peers: () => [state],
        query: (_replica, _name, question) =>
          Effect.sync(() => {
            const answer = changes.answer(question as BoardsQuestion);
            asked.push(answer.changes.length);
            return answer;
          }),
      });
      yield* fresh;
      expect(Object.fromEntries(ours.read("services"))).toEqual({ "service/x": { rate: 1 }, y: 1 });
      // Asked again at once, it is fresh enough.
      yield* fresh;
      expect(asked).toEqual([2]);
      yield* TestClock.adjust(1_000);
      shown.set("service/x", { rate: 2 });
      theirs.publish("services", "y", null);
      yield* fresh;
      expect(Object.fromEntries(ours.read("services"))).toEqual({ "service/x": { rate: 2 } });
      yield* TestClock.adjust(1_000);
      yield* fresh;
      expect(asked).toEqual([2, 2, 0]);
      // Our own word about a key counts more than theirs.
      ours.publish("services", "service/x", { rate: 3 });
      expect(ours.read("services").get("service/x")).toEqual({ rate: 3 });
      ours.publish("services", "service/x", null);
      // It went away: its last words stay for a while.
      state = peer(false, 2_000);
      yield* TestClock.adjust(10_000);
      yield* fresh;
      expect(ours.read("services").size).toBe(1);
      yield* TestClock.adjust(10_000);
      yield* fresh;
      expect(ours.read("services").size).toBe(0);
    }),
  );

  it("are told whole to who asks a server that started anew", () => {
    const theirs = board();
    theirs.publish("services", "y", 1);
    const first = new BoardChanges(theirs, ["services"], 7).answer({ since: 0, life: 0 });
    const again = new BoardChanges(theirs, ["services"], 8).answer({ since: 50, life: first.life });
    expect(again.changes).toEqual([["services", "y", "1"]]);
  });
});
