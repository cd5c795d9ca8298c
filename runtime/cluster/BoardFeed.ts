/**
 * Boards of other replicas, fetched while somebody looks: each replica is asked once a second for what changed since the
 * last answer, so a page may be open on any of them. Asking costs the others nothing while nobody looks. An entry is
 * compared by its JSON. A replica that went away keeps its last words until its parts are somebody else's.
 */
import { Clock, Effect } from "effect";
import type { Board } from "../actor/Board.ts";
import type { PeerState, QueryFailed } from "./Mesh.ts";

export const BOARDS_QUERY = "boards";
const FRESH_MS = 900;
const ANSWER_WITHIN_MS = 800;
/** Entries of a replica that is not connected are shown this much longer. */
const LAST_WORDS_MS = 15_000;

export interface BoardsQuestion {
  /** 0: everything */
  readonly since: number;
  /** of the answering process, from its last answer; another one means that it started anew */
  readonly life: number;
}

export interface BoardsAnswer {
  readonly life: number;
  readonly version: number;
  /** board, key, JSON or null when it is gone */
  readonly changes: readonly (readonly [board: string, key: string, text: string | null])[];
}

interface Entry {
  text: string | null;
  version: number;
}

/** The answering side: what changed here since a version. Takes the boards as they are when it is asked. */
export class BoardChanges {
  readonly #board: Board;
  readonly #names: readonly string[];
  readonly #life: number;
  readonly #entries = new Map<string, Map<string, Entry>>();
  #version = 0;

  constructor(board: Board, names: readonly string[], life: number) {
    this.#board = board;
    this.#names = names;
    this.#life = life;
  }

  answer({ since, life }: BoardsQuestion): BoardsAnswer {
    this.#version++;
    for (const name of this.#names) this.#take(name);
    const from = life === this.#life ? since : 0;
    const changes: (readonly [string, string, string | null])[] = [];
    for (const [name, entries] of this.#entries)
      for (const [key, { text, version }] of entries)
        if (version > from && (text !== null || from > 0)) changes.push([name, key, text]);
    return { life: this.#life, version: this.#version, changes };
  }

  #take(name: string): void {
    let entries = this.#entries.get(name);
    if (entries === undefined) {
      entries = new Map();
      this.#entries.set(name, entries);
    }
    const there = new Set<string>();
    for (const [key, value] of this.#board.local(name)) {
      there.add(key);
      const text = JSON.stringify(value) ?? "null";
      const entry = entries.get(key);
      if (entry?.text !== text) entries.set(key, { text, version: this.#version });
    }
    for (const [key, entry] of entries)
      if (entry.text !== null && !there.has(key)) entries.set(key, { text: null, version: this.#version });
  }
}

export interface BoardFeedOptions {
  readonly board: Board;
  readonly peers: () => readonly PeerState[];
  readonly query: (
    replica: string,
    name: string,
    argument: unknown,
    timeoutMs: number,
  ) => Effect.Effect<unknown, QueryFailed>;
}

/** Brings the mirrored boards up to date, at most once in 0.9 seconds; those who ask meanwhile wait for the same. */
export const makeBoardFeed = ({ board, peers, query }: BoardFeedOptions): Effect.Effect<Effect.Effect<void>> =>
  Effect.gen(function* () {
    const cursors = new Map<string, { readonly life: number; readonly version: number }>();
    const gate = yield* Effect.makeSemaphore(1);
    let freshAt = Number.NEGATIVE_INFINITY;

    const fetch = (replica: string): Effect.Effect<void> => {
      const cursor = cursors.get(replica) ?? { life: 0, version: 0 };
      const question: BoardsQuestion = { since: cursor.version, life: cursor.life };
      return query(replica, BOARDS_QUERY, question, ANSWER_WITHIN_MS).pipe(
        Effect.map((value) => {
          const { life, version, changes } = value as BoardsAnswer;
          if (life !== cursor.life) board.forget(replica);
          for (const [name, key, text] of changes)
            board.mirror(replica, name, key, text === null ? null : (JSON.parse(text) as unknown));
          cursors.set(replica, { life, version });
        }),
        // It is asked again in a second; until then its entries are as old as they are.
        Effect.catchAll((error) => Effect.logDebug(`boards of ${replica}: ${error.message}`)),
      );
    };

    return gate.withPermits(1)(
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis;
        if (now - freshAt < FRESH_MS) return;
        const all = peers();
        for (const replica of board.mirrored) {
          const peer = all.find((one) => one.replica.id === replica);
          if (peer !== undefined && (peer.connected || now - (peer.lostAt ?? now) < LAST_WORDS_MS)) continue;
          board.forget(replica);
          cursors.delete(replica);
        }
        yield* Effect.forEach(
          all.filter((peer) => peer.connected),
          (peer) => fetch(peer.replica.id),
          { concurrency: "unbounded", discard: true },
        );
        freshAt = yield* Clock.currentTimeMillis;
      }),
    );
  });
