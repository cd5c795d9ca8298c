/**
 * The built page in a real Chromium, fed by the fixture server: each view draws what it is given, changes arrive by
 * themselves, a lost server is announced and forgotten when it is back. What a real server feeds it is proved elsewhere.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { build } from "vite";
import { serviceId } from "../../schemas/service.ts";
import { chromiumPath, describeWith } from "../capabilities.ts";
import { startFixture, type Fixture } from "./fixture-server.ts";
import type { Scenario } from "./shop-graph.ts";

let browser: Browser;
let dist: string;
let fixture: Fixture | null = null;
/** errors of the page that nobody expected */
let faults: string[] = [];

const open = async (scenario: Scenario, path: string, options: BrowserContextOptions = {}): Promise<Page> => {
  fixture = await startFixture({ scenario, dist });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    // a refused socket is reported by the browser itself, and is what the reconnect test is about
    if (message.type() === "error" && !message.text().includes("WebSocket connection")) faults.push(message.text());
  });
  page.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") faults.push(`asked ${request.url()}`);
  });
  await page.goto(fixture.url + path);
  return page;
};
const text = (page: Page, what: string): Promise<void> => page.getByText(what).first().waitFor();
const painted = (page: Page): Promise<{ seq: number; nowMs: number; at: number } | undefined> =>
  page.evaluate(() => window.__corootPainted);
const front = serviceId("demo", "shop", "Container", "front");

describeWith(["chromium"], "the page", () => {
  beforeAll(async () => {
    dist = await mkdtemp(join(tmpdir(), "coroot-page-"));
    await build({
      configFile: fileURLToPath(new URL("../../ui/vite.config.ts", import.meta.url)),
      build: { outDir: dist },
      logLevel: "error",
    });
    browser = await chromium.launch({
      executablePath: chromiumPath() ?? "chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
      ],
    });
  });
  afterAll(async () => {
    await browser.close();
    await rm(dist, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    await fixture?.close();
    fixture = null;
    const seen = faults;
    faults = [];
    expect(seen).toEqual([]);
  });

  it("draws the map, announces the incident, and selects, opens and moves by keyboard", async () => {
    const page = await open("incident", "/");
    await text(page, "nginx fails 11 % of requests");
    await text(page, "11 services, 12 links");
    await text(page, "8 services");
    const canvas = page.locator("canvas.map-canvas");
    await page.waitForFunction(() => window.__corootPainted !== undefined);
    const colours = await canvas.evaluate((element) => {
      if (!(element instanceof HTMLCanvasElement)) return 0;
      const data =
        element.getContext("2d")?.getImageData(0, 0, element.width, element.height).data ?? new Uint8ClampedArray();
      const seen = new Set<number>();
      for (let n = 0; n < data.length; n += 4)
        seen.add(((data[n] ?? 0) << 16) | ((data[n + 1] ?? 0) << 8) | (data[n + 2] ?? 0));
      return seen.size;
    });
    expect(colours).toBeGreaterThan(50);
    await canvas.focus();
    await page.keyboard.press("ArrowRight");
    await page.locator(".panel h2").waitFor();
    expect(new URL(page.url()).searchParams.get("select")).not.toBeNull();
    await page.keyboard.press("ArrowRight");
    const chosen = await page.locator(".panel h2").innerText();
    await page.keyboard.press("Enter");
    await page.waitForURL("**/service/**");
    await page.getByRole("heading", { level: 1, name: chosen }).waitFor();
  });

  it("selects from the address, and shows the figures and links of what is selected", async () => {
    const page = await open("incident", `/?select=${encodeURIComponent(front)}`);
    const panel = page.locator(".panel");
    await panel.getByRole("heading", { name: "front" }).waitFor();
    for (const each of ["Called by", "Calls", "nginx", "catalog", "Open service"])
      await panel.getByText(each).first().waitFor();
  });

  it("paints every change within the frame that brings it, and says which it painted", async () => {
    const page = await open("shop", "/");
    await page.waitForFunction(() => window.__corootPainted !== undefined);
    const first = await painted(page);
    await page.waitForFunction((seq) => (window.__corootPainted?.seq ?? 0) > seq + 2, first?.seq ?? 0);
    const later = await painted(page);
    // server and browser share this machine's clock
    expect((later?.at ?? 0) - (later?.nowMs ?? 0)).toBeGreaterThan(-50);
    expect((later?.at ?? Infinity) - (later?.nowMs ?? 0)).toBeLessThan(1000);
  });

  it("adds a service that is discovered without moving those that the reader looks at", async () => {
    const page = await open("shop", "/");
    await text(page, "11 services, 12 links");
    const canvas = page.locator("canvas.map-canvas");
    const box = await canvas.boundingBox();
    const pointedAt = async (x: number, y: number): Promise<string> => {
      await page.mouse.move(x, y);
      return (await page.locator(".map-stage [aria-live]").innerText()).split(",")[0] ?? "";
    };
    // where each service stands, found as a reader does: by pointing
    const places = new Map<string, readonly [number, number]>();
    for (let y = 40; y < (box?.height ?? 0) && places.size < 11; y += 44)
      for (let x = 60; x < (box?.width ?? 0); x += 95) {
        const [at, to] = [x + (box?.x ?? 0), y + (box?.y ?? 0)];
        const name = await pointedAt(at, to);
        if (name !== "" && !name.startsWith("Call ")) places.set(name, [at, to]);
      }
    expect(places.size).toBe(11);
    fixture?.discover({
      id: serviceId("demo", "shop", "Container", "wishlist"),
      name: "wishlist",
      kind: "Container",
      namespace: "shop",
      type: "go",
      rate: 12,
      ms: 5,
    });
    await text(page, "12 services, 13 links");
    for (const [name, [x, y]] of places) expect(await pointedAt(x, y)).toBe(name);
  });

  it("lists services, filters them by the address, and sorts them", async () => {
    const page = await open("incident", "/services?find=shop");
    await page.getByRole("table", { name: "Services" }).waitFor();
    await text(page, "6 of 19 services");
    await page.getByRole("button", { name: "Service", exact: true }).click();
    await page.waitForURL("**/services?*sort=name*");
    const names = await page.locator("tbody .name-cell").allInnerTexts();
    expect(names).toEqual([...names].sort());
  });

  it("shows a service whole, with charts that move by themselves and stand still when paused", async () => {
    const page = await open("incident", "/service/demo/data/Container/postgres");
    await page.getByRole("heading", { level: 1, name: "postgres" }).waitFor();
    for (const each of ["CPU throttling", "Budget left", "Client's view", "Server's view", "Instances", "14.4 firing"])
      await text(page, each);
    expect(await page.locator(".chart canvas").count()).toBe(5);
    const figure = page.locator(".chart [data-figure]").first();
    const before = await figure.innerText();
    await page.waitForFunction((was) => document.querySelector(".chart [data-figure]")?.textContent !== was, before);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "Resume" }).waitFor();
    const held = await figure.innerText();
    await page.waitForTimeout(2500);
    expect(await figure.innerText()).toBe(held);
    await page.getByText("CPU throttling").first().click();
    await page.getByRole("table", { name: "Evidence" }).waitFor();
    await page.getByText("6 h", { exact: true }).click();
    await page.waitForURL("**range=6h*");
    await expect.poll(() => page.locator(".chart canvas").count()).toBe(4);
  });

  it("explains an incident: cause, next step, way, evidence, timeline, what was ruled out", async () => {
    const page = await open("incident", "/incidents");
    await page.getByRole("link", { name: "nginx fails 11 % of requests" }).click();
    await page.waitForURL("**/incident/inc-7f3a");
    for (const each of [
      "postgres is throttled by its CPU limit",
      "Raise the CPU limit",
      "Refuted by",
      "explains 96 %",
      "failed connects",
      "container_cpu_throttled",
      "incident opened",
      "Ruled out",
      "Data gaps",
      "2.",
      "high confidence",
    ])
      await text(page, each);
    expect(await page.locator(".stop").count()).toBe(4);
  });

  it("shows agents with what they cannot see, and why", async () => {
    const page = await open("large", "/agents");
    for (const each of [
      "4 agents, 3 connected",
      "disconnected",
      "no libssl found on this machine (errno 2)",
      "uprobe budget of 5 % exceeded",
      "edges 97 % full",
      "in the last minute: 12 events",
      "46 % of 2.3 MiB/s of a protocol that is not known",
      "0.018 cores",
    ])
      await text(page, each);
  });

  it("shows the actors as tree and table, and one actor with state and messages", async () => {
    const page = await open("incident", "/console");
    await page.getByRole("navigation", { name: "Actor tree" }).getByText("topology").click();
    await page.getByRole("link", { name: "topology", exact: true }).click();
    await page.waitForURL("**/console/topology");
    for (const each of ["Recent messages", "Mailbox", "RangeError", '"topology"']) await text(page, each);
    await page.reload();
    await text(page, "Recent messages");
  });

  it("says why there is nothing to see", async () => {
    const page = await open("empty", "/");
    await text(page, "No agent has connected yet");
  });

  it("says what an agent cannot see when that is why the map is empty", async () => {
    const blind = await open("blind", "/");
    await text(blind, "No services discovered yet");
    await text(blind, "CAP_BPF is missing");
  });

  it("says so when an address names something that is not there", async () => {
    const page = await open("shop", "/service/demo/shop/Container/gone");
    await text(page, "No service is known as gone");
    await page.goto(`${fixture?.url ?? ""}/incident/gone`);
    await text(page, "No incident has this id");
    await page.goto(`${fixture?.url ?? ""}/console/~/gone`);
    await text(page, "No actor has this path now");
    await page.goto(`${fixture?.url ?? ""}/nowhere`);
    await text(page, "Nothing is at this address");
  });

  it("says that it lost the server and from when its figures are, and takes the words back when it returns", async () => {
    const page = await open("shop", "/services");
    await page.getByRole("link", { name: "front" }).waitFor();
    fixture?.drop(true);
    const banner = page.getByRole("alert");
    await banner.getByText("Reconnecting…").waitFor();
    await banner.getByText(/last update \d+ s ago/).waitFor();
    expect(await page.getByRole("link", { name: "front" }).isVisible()).toBe(true);
    fixture?.accept();
    await banner.waitFor({ state: "detached", timeout: 15_000 });
    await expect.poll(() => fixture?.subscriptions()).toContain("services");
  });

  it("asks again after a lost message and goes on", async () => {
    const page = await open("shop", "/");
    await page.waitForFunction(() => window.__corootPainted !== undefined);
    fixture?.skip("map");
    // a fresh snapshot starts to count from one again
    await page.waitForFunction(() => (window.__corootPainted?.seq ?? 9) < 3);
    await page.waitForFunction(() => (window.__corootPainted?.seq ?? 0) > 3);
  });

  it("goes anywhere by Ctrl-K and typing", async () => {
    const page = await open("incident", "/agents");
    await text(page, "1 agent, 1 connected");
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").fill("checko");
    await page.getByRole("option", { name: /checkout/ }).waitFor();
    await page.keyboard.press("Enter");
    await page.waitForURL("**/service/demo/shop/Container/checkout");
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").fill("fails 11");
    await page.getByRole("option", { name: /nginx fails/ }).waitFor();
    await page.keyboard.press("Enter");
    await page.waitForURL("**/incident/inc-7f3a");
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("combobox").waitFor({ state: "detached" });
  });

  it("follows the system's theme, lets the reader choose, and remembers it", async () => {
    const page = await open("shop", "/", { colorScheme: "dark" });
    const scheme = (): Promise<string | null> => page.locator("html").getAttribute("data-mantine-color-scheme");
    await page.getByRole("button", { name: "Theme: as the system" }).waitFor();
    expect(await scheme()).toBe("dark");
    await page.getByRole("button", { name: "Theme: as the system" }).click();
    expect(await scheme()).toBe("light");
    await page.reload();
    await page.getByRole("button", { name: "Theme: light" }).waitFor();
    expect(await scheme()).toBe("light");
  });

  it("keeps rows where they are while the pointer is among them, and counts the new ones", async () => {
    const page = await open("shop", "/services?sort=-rps");
    const names = (): Promise<string[]> => page.locator("tbody .name-cell").allInnerTexts();
    await page.getByRole("link", { name: "front" }).waitFor();
    await page.getByRole("link", { name: "front" }).hover();
    const before = await names();
    fixture?.discover({
      id: serviceId("demo", "shop", "Container", "wishlist"),
      name: "wishlist",
      kind: "Container",
      namespace: "shop",
      type: "go",
      rate: 5000,
      ms: 5,
    });
    await page.getByRole("button", { name: "1 new" }).waitFor();
    expect(await names()).toEqual(before);
    await page.getByRole("button", { name: "1 new" }).click();
    await expect.poll(async () => (await names())[0]).toBe("wishlist");
  });

  it("fits every view into 1024, 1440 and 1920 pixels without scrolling sideways", async () => {
    const page = await open("large", "/");
    for (const width of [1024, 1440, 1920])
      for (const path of [
        "/",
        "/services",
        "/service/demo/core/Deployment/orders",
        "/incidents?show=all",
        "/incident/inc-7f3a",
        "/agents",
        "/console",
        "/console/service/demo/data/StatefulSet/orders-db",
      ]) {
        await page.setViewportSize({ width, height: 900 });
        await page.goto(`${fixture?.url ?? ""}${path}`);
        await page.locator("#view > *").first().waitFor();
        await page.getByText("Loading").first().waitFor({ state: "detached" });
        const wide = await page.evaluate(() =>
          [document.documentElement, document.querySelector("#view"), document.querySelector(".header")].map(
            (element) => (element?.scrollWidth ?? 0) - (element?.clientWidth ?? 0),
          ),
        );
        expect(wide, `${path} at ${width}`).toEqual([0, 0, 0]);
      }
  });
});
