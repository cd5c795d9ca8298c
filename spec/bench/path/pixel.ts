/**
 * path.pixel: from a request in the kernel to its pixel on the map, in a real Chromium; see spec/e2e/pixel.ts. The
 * product is started the way a person starts it.
 */
import { launch, open } from "../../e2e/browser.ts";
import { measurePixels, p95 } from "../../e2e/pixel.ts";
import { capability } from "../../machine.ts";
import type { Figure } from "../figure.ts";
import { freePort, npmStart, temporaryFolder } from "./launch.ts";

export const figures: readonly Figure[] = [
  {
    id: "path.pixel",
    figure: "kernel event to pixel, p95",
    unit: "s",
    bar: "<= 1.8",
    holds: (value) => value <= 1.8,
    measure: async ({ long, log }) => {
      for (const name of ["bpf", "chromium"] as const) {
        const found = capability(name);
        if (!found.available) return { value: null, reason: `${name}: ${found.reason}` };
      }
      const folder = temporaryFolder();
      const running = await npmStart(folder.path, await freePort());
      const browser = await launch();
      try {
        const faults: string[] = [];
        const page = await open(browser, running.address, faults);
        const times = await measurePixels(running.address, page, long ? 40 : 15);
        if (faults.length > 0) log(`the page complained: ${faults.join("; ")}`);
        const listed = [...times].sort((a, b) => a - b).map((time) => Math.round(time));
        return { value: p95(times) / 1000, detail: `${times.length} requests: ${listed.join(" ")} ms` };
      } finally {
        await browser.close();
        await running.stop();
        folder.remove();
      }
    },
  },
];
