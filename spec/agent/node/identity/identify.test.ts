import { describe, expect, it } from "vitest";
import { cgroupOwner, ownerOf, parseCgroup } from "../../../../agent/node/identity/cgroupPath.ts";
import { nameFromInspect } from "../../../../agent/node/identity/ContainerNames.ts";
import { identify, type IdentityInput } from "../../../../agent/node/identity/identify.ts";
import { programOf } from "../../../../agent/node/identity/program.ts";

const ID = "4e1f6ad52bd1ba2bb0a7b0b1d3d6f8f0a1b2c3d4e5f60718293a4b5c6d7e8f90";
const UID = "3b6e1c9a-1f2d-4c5b-8a7e-0d1c2b3a4f5e";
const UID_ = UID.replaceAll("-", "_");

describe("who owns a cgroup", () => {
  const cases: readonly (readonly [string, string, object | null])[] = [
    [
      "Kubernetes, cgroupfs driver",
      `/kubepods/burstable/pod${UID}/${ID}`,
      { kind: "container", podUid: UID, containerId: ID },
    ],
    [
      "Kubernetes, systemd driver, containerd",
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_}.slice/cri-containerd-${ID}.scope`,
      { kind: "container", runtime: "containerd", podUid: UID, containerId: ID },
    ],
    [
      "CRI-O with a cgroup of the container below",
      `/kubepods.slice/kubepods-pod${UID_}.slice/crio-${ID}.scope/container`,
      {
        kind: "container",
        runtime: "crio",
        podUid: UID,
        path: `/kubepods.slice/kubepods-pod${UID_}.slice/crio-${ID}.scope`,
      },
    ],
    ["CRI-O's monitor", `/kubepods.slice/kubepods-pod${UID_}.slice/crio-conmon-${ID}.scope`, null],
    [
      "containerd with an old runc",
      `/system.slice/containerd.service/kubepods-burstable-pod${UID_}.slice:cri-containerd:${ID}`,
      { kind: "container", runtime: "containerd", podUid: UID, containerId: ID },
    ],
    [
      "Kubernetes in Docker: the innermost container",
      `/docker/${"a".repeat(64)}/kubelet/kubepods/besteffort/pod${UID}/${ID}`,
      { kind: "container", podUid: UID, containerId: ID },
    ],
    ["a Pod without container (gVisor)", `/kubepods/burstable/pod${UID}`, { kind: "pod", podUid: UID }],
    [
      "Docker, cgroupfs driver",
      `/docker/${ID}`,
      { kind: "container", runtime: "docker", podUid: null, containerId: ID },
    ],
    [
      "Docker, systemd driver",
      `/system.slice/docker-${ID}.scope`,
      { kind: "container", runtime: "docker", containerId: ID, path: `/system.slice/docker-${ID}.scope` },
    ],
    ["systemd inside a container", `/docker/${ID}/system.slice/nginx.service`, { kind: "container", containerId: ID }],
    [
      "podman",
      `/machine.slice/libpod-${ID}.scope/container`,
      { kind: "container", runtime: "podman", containerId: ID },
    ],
    ["a unit", "/system.slice/nginx.service", { kind: "unit", unit: "nginx.service", name: "nginx" }],
    [
      "a unit in a slice of its own",
      "/coroot-demo.slice/catalog.service",
      { kind: "unit", name: "catalog", path: "/coroot-demo.slice/catalog.service" },
    ],
    [
      "an instance of a template, in nested slices",
      "/system.slice/system-postgresql.slice/postgresql@15-main.service",
      { kind: "unit", unit: "postgresql@15-main.service", name: "postgresql" },
    ],
    [
      "an escaped unit",
      "/system.slice/my\\x2dshop.service",
      { kind: "unit", unit: "my-shop.service", name: "my-shop" },
    ],
    [
      "a delegated unit's inner cgroup",
      "/system.slice/app.service/workers",
      { kind: "unit", name: "app", path: "/system.slice/app.service" },
    ],
    [
      "a user's own unit",
      "/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service",
      { kind: "unit", name: "sync" },
    ],
    ["a login", "/user.slice/user-1000.slice/session-1.scope", null],
    ["a user's manager", "/user.slice/user-1000.slice/user@1000.service/init.scope", null],
    ["init", "/init.scope", null],
    ["the root", "/", null],
    ["a cgroup that nobody knows", "/process_api/5f3e9b1a52d3ad3379c5c54dcd21103a", null],
  ];
  it.each(cases)("%s", (_, path, expected) => {
    if (expected === null) expect(cgroupOwner(path)).toBeNull();
    else expect(cgroupOwner(path)).toMatchObject(expected);
  });

  it("believes the unified path on hybrid machines, and a v1 controller where it is empty", () => {
    const hybrid = "1:name=systemd:/user.slice/session-1.scope\n3:cpu,cpuacct:/\n0::/system.slice/redis.service\n";
    expect(ownerOf(parseCgroup(hybrid))).toMatchObject({ kind: "unit", name: "redis" });
    const v1 = "4:memory:/process_api/abc\n1:cpu:/coroot-demo.slice/cart.service\n0::/\n";
    expect(ownerOf(parseCgroup(v1))).toMatchObject({ kind: "unit", name: "cart" });
  });

  it("skips a cgroup that was removed", () => {
    expect(ownerOf(parseCgroup("0::/system.slice/old.service (deleted)\n"))).toBeNull();
  });
});

const program = (exe: string, argv: readonly string[], more: Partial<IdentityInput> = {}) =>
  programOf({ exe, argv, comm: exe.slice(exe.lastIndexOf("/") + 1), cwd: "", ...more });

describe("what a program is called", () => {
  const cases: readonly (readonly [string, readonly string[], string])[] = [
    ["/usr/bin/node", ["node", "/srv/cart/index.js"], "cart"],
    ["/usr/bin/node", ["node", "/srv/front.mjs", "--port", "80"], "front"],
    [
      "/usr/bin/node",
      ["node", "--require", "/x/otel.js", "--max-old-space-size=100", "/srv/shop/dist/main.js"],
      "shop",
    ],
    ["/usr/bin/node", ["node", "-e", "setInterval(()=>{},1)", "password=secret"], "node"],
    ["/usr/bin/node", ["node", "/app/dist/coroot.mjs", "server", "--key", "x"], "coroot-server"],
    ["/usr/bin/python3.11", ["python3", "-m", "http.server", "8000"], "http.server"],
    ["/usr/bin/python3.11", ["python3", "-u", "/srv/catalog.py"], "catalog"],
    ["/usr/bin/python3.11", ["/usr/bin/python3", "/usr/local/bin/gunicorn", "-w", "4", "shop.wsgi:app"], "shop"],
    ["/usr/bin/python3.11", ["gunicorn: worker [billing.wsgi:application]"], "billing"],
    ["/usr/bin/python3.11", ["python3", "-c", "import os; token='abc'"], "python"],
    ["/usr/lib/jvm/bin/java", ["java", "-Xmx1g", "-jar", "/opt/orders-1.4.2-SNAPSHOT.jar"], "orders"],
    ["/usr/lib/jvm/bin/java", ["java", "-cp", "/a:/b", "-Dpw=s", "com.shop.Checkout", "--x"], "Checkout"],
    ["/usr/bin/dotnet", ["dotnet", "/srv/Payments.dll"], "Payments"],
    ["/usr/bin/bash", ["bash", "/opt/backup.sh"], "backup"],
    ["/usr/lib/postgresql/15/bin/postgres", ["postgres: walwriter "], "postgres"],
    ["/usr/sbin/nginx", ["nginx: worker process"], "nginx"],
    ["/opt/shop/bin/api (deleted)", ["./api"], "api"],
  ];
  it.each(cases)("%s %j → %s", (exe, argv, name) => {
    expect(program(exe, argv).name).toBe(name);
  });

  it("names a relative script by the folder it was started in", () => {
    expect(program("/usr/bin/node", ["node", "server.js"], { cwd: "/home/dev/recommend" }).name).toBe("recommend");
  });

  it("knows Redis by its comm, since Debian links its server to another tool", () => {
    const redis = program("/usr/bin/redis-check-rdb", ["redis-server *:6379"], { comm: "redis-server" });
    expect(redis).toMatchObject({ name: "redis-server", type: "redis" });
  });

  it("never lets an argument through that is no script, module or class", () => {
    const secret = "s3cr3t-token";
    for (const [exe, argv] of [
      ["/usr/bin/node", ["node", "--title", secret, "/srv/a.js", `--key=${secret}`, secret]],
      ["/usr/bin/python3", ["python3", "-X", secret, "-m", "celery", `amqp://u:${secret}@h`]],
      ["/usr/bin/java", ["java", `-Dp=${secret}`, "-cp", secret, "a.B", secret]],
      ["/usr/bin/curl", ["curl", "-H", secret]],
    ] as const)
      expect(JSON.stringify(identify({ exe, argv, comm: "x", cwd: "", cgroup: "0::/\n", node: "n" }))).not.toContain(
        secret,
      );
  });
});

const labels = (Labels: object) => nameFromInspect({ Name: "/shop-cart-1", Config: { Labels } });

describe("identity", () => {
  const base = { exe: "/usr/bin/node", argv: ["node", "/srv/cart.mjs"], comm: "node", cwd: "", node: "vm1" };
  it("prefers the unit to the program, with its folders per hierarchy", () => {
    const cgroup =
      "4:memory:/other\n1:cpu:/coroot-demo.slice/cart.service\n2:cpuacct:/coroot-demo.slice/cart.service/x\n0::/\n";
    expect(identify({ ...base, cgroup })).toMatchObject({
      kind: "SystemdUnit",
      namespace: "vm1",
      name: "cart",
      instance: "cart.service",
      type: "nodejs",
      folders: {
        cpu: "/coroot-demo.slice/cart.service",
        cpuacct: "/coroot-demo.slice/cart.service",
        memory: null,
        unified: null,
      },
    });
  });
  it("asks only Docker for names, never for containers of Pods", () => {
    expect(identify({ ...base, cgroup: `0::/docker/${ID}\n` })).toMatchObject({
      kind: "Container",
      name: ID.slice(0, 12),
      container: ID,
    });
    expect(identify({ ...base, cgroup: `0::/kubepods/pod${UID}/${ID}\n` }).container).toBeNull();
  });
  it("reads compose and swarm labels before Docker's own name", () => {
    expect(labels({})).toEqual({ name: "shop-cart-1", namespace: null });
    expect(labels({ "com.docker.compose.service": "cart", "com.docker.compose.project": "shop" })).toEqual({
      name: "cart",
      namespace: "shop",
    });
    expect(nameFromInspect("nonsense")).toBeNull();
  });
});
