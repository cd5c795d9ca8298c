/** Whose requests are taken, from the headers alone. */
import { describe, expect, it } from "vitest";
import { checkDoor, checkHost, checkOrigin } from "../../../runtime/http/guard.ts";

describe("Host", () => {
  it.each([
    ["127.0.0.1:8080", 8080],
    ["localhost:8080", 8080],
    ["LocalHost:8080", 8080],
    ["[::1]:8080", 8080],
    ["localhost", 80],
  ])("%s on port %i is this machine", (host, port) => expect(checkHost(host, port)).toBeNull());

  it.each([
    [undefined, 8080],
    ["", 8080],
    ["localhost", 8080],
    ["localhost:8081", 8080],
    ["evil.example:8080", 8080],
    ["localhost.evil.example:8080", 8080],
    ["localhost:8080@evil.example", 8080],
    ["127.0.0.1.:8080", 8080],
    ["[::1]evil:8080", 8080],
    ["127.0.0.1:8080:8080", 8080],
  ])("%s on port %i is not", (host, port) => expect(checkHost(host, port)).toMatchObject({ status: 421 }));
});

describe("Origin", () => {
  const host = "127.0.0.1:8080";
  it.each([
    ["a program", { method: "POST", upgrade: true, origin: undefined }],
    ["our page's socket", { method: "GET", upgrade: true, origin: "http://127.0.0.1:8080" }],
    ["our page's change", { method: "POST", upgrade: false, origin: "http://127.0.0.1:8080" }],
    ["a link from elsewhere", { method: "GET", upgrade: false, origin: "http://evil.example" }],
  ])("lets %s in", (_, request) => expect(checkOrigin({ ...request, host })).toBeNull());

  it.each([
    ["another page's socket", { method: "GET", upgrade: true, origin: "http://evil.example" }],
    ["a page without an origin", { method: "GET", upgrade: true, origin: "null" }],
    ["the same machine's other port", { method: "GET", upgrade: true, origin: "http://127.0.0.1:3000" }],
    ["another page's change", { method: "DELETE", upgrade: false, origin: "https://127.0.0.1:8080" }],
  ])("keeps %s out", (_, request) => expect(checkOrigin({ ...request, host })).toMatchObject({ status: 403 }));
});

describe("A call at a door", () => {
  it("comes from a program by whatever name", () => {
    expect(checkDoor({ host: "coroot.monitoring.svc:8080" }, 8080)).toBeNull();
    expect(checkDoor({}, 8080)).toBeNull();
  });

  it("comes from our own page, and from no other", () => {
    const own = "127.0.0.1:8080";
    expect(checkDoor({ host: own, origin: `http://${own}` }, 8080)).toBeNull();
    expect(checkDoor({ host: own, "sec-fetch-site": "same-origin" }, 8080)).toBeNull();
    expect(checkDoor({ host: own, origin: "http://evil.example" }, 8080)?.status).toBe(403);
    expect(checkDoor({ host: own, origin: "null" }, 8080)?.status).toBe(403);
    // a name that its owner made point here: Host and Origin agree
    expect(checkDoor({ host: "evil.example:8080", origin: "http://evil.example:8080" }, 8080)?.status).toBe(421);
    expect(checkDoor({ host: "evil.example:8080", "sec-fetch-site": "same-origin" }, 8080)?.status).toBe(421);
  });
});
