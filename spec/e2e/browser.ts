/** A real Chromium that looks at a real server's page, and remembers every paint of the map. */
import { chromium, type Browser, type Page } from "playwright-core";
import { chromiumPath } from "../machine.ts";

export const launch = (): Promise<Browser> =>
  chromium.launch({
    executablePath: chromiumPath() ?? "chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
    ],
  });

export interface Paint {
  readonly seq: number;
  readonly nowMs: number;
  readonly at: number;
}

// As text: a compiled function may refer to helpers that the page does not have.
const REMEMBER_PAINTS = `
  const paints = (window.corootPaints = []);
  Object.defineProperty(window, "__corootPainted", {
    get: () => paints.at(-1),
    set: (paint) => {
      paints.push(paint);
      if (paints.length > 1000) paints.shift();
    },
  });
`;

/** Opens a page of the server; what the page complains of is added to `faults`. */
export const open = async (browser: Browser, url: string, faults: string[]): Promise<Page> => {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(message.text());
  });
  await page.addInitScript({ content: REMEMBER_PAINTS });
  await page.goto(url);
  return page;
};

export const paints = (page: Page): Promise<readonly Paint[]> => page.evaluate<readonly Paint[]>("corootPaints");
