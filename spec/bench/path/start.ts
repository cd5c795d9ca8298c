/**
 * path.start: how long a second `npm start` takes until the page answers. The first one of this figure builds what is
 * stale and makes the data folder; the ones after it find all of that, and their median counts. Wall time, from the
 * launch of npm to the page's HTML.
 */
import type { Figure } from "../figure.ts";
import { freePort, npmStart, temporaryFolder } from "./launch.ts";

const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
};

const once = async (data: string): Promise<number> => {
  const running = await npmStart(data, await freePort());
  await running.stop();
  return running.startSeconds;
};

export const figures: readonly Figure[] = [
  {
    id: "path.start",
    figure: "second npm start until the page answers",
    unit: "s",
    bar: "<= 5",
    holds: (value) => value <= 5,
    measure: async ({ long, log, signal }) => {
      const folder = temporaryFolder();
      try {
        const first = await once(folder.path);
        log(`first start on an empty data folder: ${first.toFixed(2)} s`);
        const times: number[] = [];
        for (let run = 0; run < (long ? 15 : 5) && !signal.aborted; run++) times.push(await once(folder.path));
        const listed = times.map((time) => time.toFixed(2)).join(" ");
        return {
          value: median(times),
          detail: `median of ${times.length}: ${listed} s; first start ${first.toFixed(2)} s`,
        };
      } finally {
        folder.remove();
      }
    },
  },
];
