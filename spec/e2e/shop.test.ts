/**
 * The whole system on real input: a shop in its own namespaces and cgroups under load, the agent with the probe, the
 * server with its store, a webhook receiver, and the page in Chromium. One fault from its injection to the incident's
 * end, judged like the demo's check judges it.
 */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { runFault, withBench } from "../../deploy/demo/check.ts";
import { judge } from "../../deploy/demo/truth.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { launch, open } from "./browser.ts";
import { measurePixels, p95 } from "./pixel.ts";

const NEEDS = ["root", "bpf", "netns", "cgroup", "postgres", "redis", "nginx", "python", "chromium", "chdb"] as const;
/** On a machine under load the scheduler adds to it; the benchmark path.pixel judges the bar itself (1.8 s). */
const PIXEL_BOUND_MS = 3_500;

describeWith(NEEDS, "the shop, end to end", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launch();
  });
  afterAll(() => browser.close());

  itWith(
    NEEDS,
    "an error-throwing cart becomes one incident with the right cause, on the webhook and on the page, and ends",
    async () => {
      const told: string[] = [];
      const options = { shuffle: true, warmupMs: 20_000, tell: (text: string) => void told.push(text) };
      const faults: string[] = [];
      await withBench(options, async (bench) => {
        const { server, shop } = bench;
        const page = await open(browser, server.url, faults);
        const pixels = await measurePixels(server.url, page, 6);
        expect(p95(pixels), `pixels after ${pixels.join(", ")} ms`).toBeLessThan(PIXEL_BOUND_MS);

        const running = runFault("errors", bench, options);
        const { name } = shop.environment.plan.services.catalog;
        // The banner names the cause while the incident is open, without anybody touching the page.
        const banner = page.getByText(`${name} answers with errors`).first().waitFor({ timeout: 60_000 });
        const [seen, shown] = await Promise.all([
          running,
          banner.then(
            () => "shown",
            (error: unknown) => String(error),
          ),
        ]);
        const verdict = judge(seen);
        expect(verdict, `${told.join("\n")}\n${[...verdict.notes, ...verdict.account].join("\n")}`).toMatchObject({
          right: true,
          late: [],
        });
        expect(shown).toBe("shown");

        await page.goto(`${server.url}/incident/${seen.incident?.id ?? ""}`);
        await page.getByText(`${name} answers with errors`).first().waitFor();
        await page.goto(`${server.url}/agents`);
        await page.getByText("requests").first().waitFor();
        await page.goto(`${server.url}/console`);
        await page.getByText("incident-desk").first().waitFor();
        await page.close();
      });
      expect(faults).toEqual([]);
    },
    240_000,
  );
});
