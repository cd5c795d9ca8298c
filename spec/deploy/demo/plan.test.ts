import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { faultProblem, faults } from "../../../deploy/demo/faults.ts";
import { freeRange, overlap } from "../../../deploy/demo/network.ts";
import { plainPlan, roles, rolesWithout, serviceNames, shuffledPlan } from "../../../deploy/demo/plan.ts";
import { truthOf } from "../../../deploy/demo/truth.ts";

const random = fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })).map((stream) => () => {
  const { value } = stream.next();
  return typeof value === "number" ? value : 0;
});

describe("names and ports", () => {
  it("are plain by default", () => {
    expect(serviceNames(plainPlan())).toEqual(["nginx", "front", "catalog", "postgres", "cart", "redis"]);
  });

  it("say nothing and never collide when shuffled, whatever the dice", () => {
    fc.assert(
      fc.property(random, (dice) => {
        const plan = shuffledPlan(dice);
        const names = serviceNames(plan);
        expect(new Set(names).size).toBe(6);
        for (const role of roles) expect(names).not.toContain(role);
        for (const name of names) expect(name).toMatch(/^[a-z]+$/);
        const ports = roles.map((role) => plan.services[role].port);
        expect(new Set(ports).size).toBe(6);
        for (const port of ports) expect(port).toBeGreaterThanOrEqual(10_000);
      }),
    );
  });

  it("carry the truth with them", () => {
    const plan = shuffledPlan(Math.random);
    expect(truthOf("redis-down", plan)).toEqual({ service: plan.services.redis.name, kind: "dependency_down" });
    expect(truthOf("oom", plan)).toEqual({ service: plan.services.cart.name, kind: "memory" });
    expect(truthOf("db-lock", plainPlan())).toEqual({ service: "postgres", kind: "waiting_inside" });
    expect(truthOf("cpu-hog", plainPlan())).toEqual({ service: "catalog", kind: "cpu_throttling" });
  });

  it("put errors on the cart, and on the catalog when shuffled", () => {
    expect(truthOf("errors", plainPlan()).service).toBe("cart");
    const plan = shuffledPlan(Math.random);
    expect(truthOf("errors", plan).service).toBe(plan.services.catalog.name);
    expect(faults.errors.role(true)).toBe("catalog");
  });
});

describe("a missing program", () => {
  it("takes its part and what stands on it", () => {
    expect(rolesWithout([])).toEqual(roles);
    expect(rolesWithout(["postgres"])).toEqual(["nginx", "front", "cart", "redis"]);
    expect(rolesWithout(["redis-server", "nginx"])).toEqual(["front", "catalog", "postgres"]);
  });
});

describe("a fault that cannot be done here", () => {
  const environment = { plan: plainPlan(), folder: "/", cgroups: null, network: null, off: ["cgroups: off, no root"] };

  it("says what it lacks", () => {
    expect(faultProblem(faults.errors, environment, [])).toBeNull();
    expect(faultProblem(faults.oom, environment, [])).toBe("oom needs limits; cgroups: off, no root");
    expect(faultProblem(faults["db-lock"], environment, ["python3"])).toMatch(
      /postgres, which is off: python3 missing/,
    );
  });
});

describe("the range of addresses", () => {
  it("knows when two ranges share an address", () => {
    expect(overlap("10.0.0.0/8", "10.61.2.0/24")).toBe(true);
    expect(overlap("10.61.2.7", "10.61.2.0/24")).toBe(true);
    expect(overlap("10.61.3.0/24", "10.61.2.0/24")).toBe(false);
  });

  it("avoids the machine's routes, and says when there is no room", () => {
    let turn = 0;
    const dice = [0, 0.5, 0.5, 0.5];
    expect(freeRange(["10.60.0.0/16"], () => dice[turn++] ?? 0)).toBe("10.155.128");
    expect(() => freeRange(["10.0.0.0/8"], Math.random)).toThrow(/no free 10.x.y.0\/24/);
  });
});
