/** Holds the data directory that it is given until it is killed; the other process of DataDir.machine.test.ts. */
import { Effect } from "effect";
import { openDataDir } from "../../../runtime/config/DataDir.ts";

const path = process.argv[2] ?? "";
await Effect.runPromise(
  Effect.scoped(
    openDataDir(path).pipe(
      Effect.tap(() => Effect.sync(() => process.stdout.write("held\n"))),
      Effect.zipRight(Effect.sleep("1 minute")),
    ),
  ),
);
