import { describe, expect, it } from "vitest";
import { Instances, REPORT_AFTER_MS } from "../../../../agent/node/observe/Instances.ts";
import { member } from "./members.ts";

const unit = { instance: "cart.service", name: "cart" };

describe("instances", () => {
  it("makes one family of a process and its workers, and two of two starts of one program", () => {
    const instances = new Instances();
    const master = instances.join(member(10), 0);
    expect(instances.join(member(11, { ppid: 10 }), 0)).toBe(master);
    const second = instances.join(member(20), 0);
    expect(second.id).not.toBe(master.id);
    expect([master.slot, second.slot]).toEqual(["10", "20"]);
    // A worker that outlives its master stays where it was.
    instances.leave(10, 0, 0, false);
    expect(instances.ofPid(11)).toBe(master);
  });

  it("counts a restart when all processes of a unit died and new ones came", () => {
    const instances = new Instances();
    instances.join(member(10, unit), 0);
    instances.settle(0, 0);
    instances.leave(10, 1000, 1000, false);
    instances.settle(4000, 4000);
    expect(instances.gone).toHaveLength(1);
    const again = instances.join(member(50, unit), 5000);
    expect([again.restarts, again.id]).toEqual([1, 2]);
    instances.settle(5000, 5000);
    expect(instances.events.map(({ kind }) => kind)).toContain("start");
  });

  it("counts a restart of a plain process that comes back with another pid", () => {
    const instances = new Instances();
    instances.join(member(10), 0).listens = true;
    instances.settle(0, 0);
    instances.leave(10, 1000, 1000, false);
    expect(instances.join(member(60), 2000).restarts).toBe(1);
    expect(instances.join(member(61), 2000).restarts).toBe(0);
  });

  it("counts a restart when the head was lost and a new process starts beside a survivor", () => {
    const instances = new Instances();
    const instance = instances.join(member(10, unit), 0);
    instances.join(member(11, { ...unit, ppid: 10 }), 0);
    instances.leave(10, 0, 0, false);
    expect(instance.restarts).toBe(0);
    instances.join(member(30, unit), 0);
    expect(instance.restarts).toBe(1);
    instances.join(member(31, unit), 0);
    expect(instance.restarts).toBe(1);
  });

  it("tells how a process ended when the kernel's word comes after its end was seen, else that it is not known", () => {
    const instances = new Instances();
    instances.join(member(10, unit), 0);
    instances.join(member(11, { ...unit, ppid: 10 }), 0);
    instances.settle(0, 0);
    instances.events.splice(0);
    instances.leave(11, 1000, 1000, true);
    expect(instances.events).toEqual([]);
    instances.exited(11, { code: null, signal: 9, atMs: 990 });
    expect(instances.events).toEqual([
      { kind: "exit", instance: 1, pid: 11, code: null, signal: 9, atMs: 990, left: 1 },
    ]);
    instances.leave(10, 2000, 2000, true);
    instances.settle(4000, 4000);
    expect(instances.events.at(-1)).toMatchObject({ pid: 10, code: null, signal: null, left: 0 });
    instances.exited(10, { code: 1, signal: null, atMs: 0 });
    expect(instances.events).toHaveLength(2);
  });

  it("reports units at once, programs when they last or listen, shells only when they listen or talk", () => {
    const instances = new Instances();
    const first = instances.join(member(10, unit), 0);
    const program = instances.join(member(20), 0);
    const listener = instances.join(member(30), 0);
    const shell = instances.join(member(40, { name: "bash", exe: "/bin/bash", quiet: true }), 0);
    listener.listens = true;
    instances.settle(0, 0);
    expect([first, program, listener, shell].map(({ reported }) => reported)).toEqual([true, false, true, false]);
    instances.settle(REPORT_AFTER_MS, 0);
    expect([program.reported, shell.reported]).toEqual([true, false]);
    shell.talks = true;
    instances.settle(REPORT_AFTER_MS, 0);
    expect(shell.reported).toBe(true);
  });

  it("keeps a unit's instance when one of its processes becomes another program", () => {
    const instances = new Instances();
    const before = member(10, { ...unit, exe: "/bin/sh" });
    const instance = instances.join(before, 0);
    expect(instances.replace(before, member(10, { ...unit, exe: "/usr/bin/node", type: "nodejs" }), 0)).toBe(instance);
    expect([instance.restarts, instance.members.size, instance.identity.type]).toEqual([0, 1, "nodejs"]);
  });
});
