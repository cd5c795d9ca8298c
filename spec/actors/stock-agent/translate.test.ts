/** The parts of the translation by themselves: names, identities, durations, counters over resets, gaps and repetitions. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Durations } from "../../../actors/stock-agent/durations.ts";
import { addressOf, identityOf, ownerByKube, ownerByName } from "../../../actors/stock-agent/identity.ts";
import { instrumentation, type Login } from "../../../actors/stock-agent/instrumentation.ts";
import { partsOf } from "../../../actors/stock-agent/messages.ts";
import { requestMetric, statusOf, watcherOf } from "../../../actors/stock-agent/metrics.ts";
import { GAP_MS, LIMITS, StockNode as Translator } from "../../../actors/stock-agent/StockNode.ts";
import type { Watched } from "../../../runtime/remote-write/Columns.ts";
import type { ServiceId } from "../../../schemas/service.ts";
import type { DecodedObserve } from "../../../schemas/wire/codec.ts";
import { bucketOf, countSlower } from "../../../schemas/wire/histogram.ts";
import { PROTOCOLS, STATUS } from "../../../schemas/wire/observe.ts";
import { LES, Reader, StockNode } from "./StockFleet.ts";

const START = 1_700_000_000_000;
const AT = "/docker/front";
const TO = "10.0.0.2:5000";

describe("names", () => {
  it("of all protocols are known, outbound and inbound", () => {
    const stems = { requests: ["http", "kafka", "dubbo", "zookeeper", "foundationdb"] } as const;
    for (const protocol of PROTOCOLS.filter((name) => name !== "tcp" && name !== "dns")) {
      const messages = protocol === "rabbitmq" || protocol === "nats";
      const stem = messages
        ? "messages"
        : (stems.requests as readonly string[]).includes(protocol)
          ? "requests"
          : "queries";
      const number = PROTOCOLS.indexOf(protocol);
      const name = protocol === "mongodb" ? "mongo" : protocol;
      expect(requestMetric(`container_${name}_${stem}_total`)).toEqual({
        protocol: number,
        inbound: false,
        part: "count",
      });
      expect(requestMetric(`container_${name}_inbound_${stem}_duration_seconds_total_bucket`)).toEqual({
        protocol: number,
        inbound: true,
        part: "bucket",
      });
    }
    expect(requestMetric("container_http_requests_duration_seconds_total_sum")?.part).toBe("sum");
    expect(requestMetric("container_gopher_requests_total")).toBeNull();
    expect(requestMetric("container_dns_requests_total")).toBeNull();
  });

  it("are taken from stock agents, and not from cAdvisor, node_exporter or agents of ours", () => {
    const machine = { machine_id: "aa", system_uuid: "b-b" };
    expect(watcherOf("container_info", { ...machine, container_id: "/docker/x" })).toBe("stock:aa.bb");
    expect(watcherOf("node_info", { machine_id: "aa", system_uuid: "aa" })).toBe("stock:aa");
    expect(watcherOf("kube_pod_info", {})).toBe("stock:kube");
    expect(watcherOf("container_cpu_usage_seconds_total", { id: "/docker/x" })).toBeNull();
    expect(watcherOf("node_uname_info", { machine_id: "aa" })).toBeNull();
    expect(
      watcherOf("container_info", { ...machine, container_id: "/docker/x", app_id: "c/n/Container/x" }),
    ).toBeNull();
    expect(watcherOf("container_info", { machine_id: "a/../b", container_id: "/docker/x" })).toBeNull();
  });

  it("of outcomes say whose doing a failure was", () => {
    const { ok, rejected, failed } = STATUS;
    const http = { "2xx": ok, "3xx": ok, "404": rejected, "4xx": rejected, "5xx": failed, "503": failed };
    const grpc = {
      "grpc:OK": ok,
      "grpc:NOT_FOUND": rejected,
      "grpc:UNAVAILABLE": failed,
      "grpc:DeadlineExceeded": failed,
    };
    const rest = { ok, failed, unknown: ok };
    for (const [text, status] of Object.entries({ ...http, ...grpc, ...rest }))
      expect(statusOf(text), text).toBe(status);
  });
});

describe("an identity", () => {
  it.each([
    ["/k8s/shop/front-6d4cf56db6-x2x4z/app", "shop/Deployment/front"],
    ["/k8s/shop/agent-x2x4z/app", "shop/DaemonSet/agent"],
    ["/k8s/shop/db-0/app", "shop/StatefulSet/db"],
    ["/k8s/shop/lonely/app", "shop/Pod/lonely"],
    ["/k8s-cronjob/shop/nightly/app", "shop/CronJob/nightly"],
    ["/swarm/stack/web/1", "stack/Container/stack_web"],
    ["/swarm/_/web/1", "n1/Container/web"],
    ["/nomad/default/job/group/alloc/task", "default/Container/job.group"],
    ["/docker/cache", "n1/Container/cache"],
    ["/system.slice/redis-server.service", "n1/SystemdUnit/redis-server"],
    ["/system.slice/postgresql@15-main.service", "n1/SystemdUnit/postgresql"],
    ["/system.slice/system-postgresql.slice", "n1/SystemdUnit/postgresql"],
    ["/system.slice/system-monitor.service", "n1/SystemdUnit/system-monitor"],
    ["/talos/etcd", "n1/SystemdUnit/etcd"],
  ])("of %s is %s", (containerId, expected) => {
    const found = identityOf(containerId, "n1", null);
    expect(`${found?.namespace}/${found?.kind}/${found?.name}`).toBe(expected);
  });

  it("of any other text is none, and none fails", () => {
    expect(identityOf("/somewhere/x", "n", null)).toBeNull();
    expect(identityOf("/k8s/ns", "n", null)).toBeNull();
    fc.assert(fc.property(fc.string(), (text) => void identityOf(`/${text}`, "n", null)));
    fc.assert(fc.property(fc.string(), (text) => void addressOf(text)));
  });

  it("is the owner's that Kubernetes names, which names alone cannot tell", () => {
    expect(ownerByName("front-6d4cf56db6-x2x4z")).toEqual({ kind: "Deployment", name: "front" });
    const of = (kind: string, name: string, job: string | null = null) => ownerByKube("p-x2x4z", "n1", kind, name, job);
    expect(of("ReplicaSet", "front-6d4cf56db6")).toEqual({ kind: "Deployment", name: "front" });
    expect(of("Job", "nightly-28391040")).toEqual({ kind: "CronJob", name: "nightly" });
    expect(of("Job", "migrate", "cron")).toEqual({ kind: "CronJob", name: "cron" });
    expect(of("Job", "migrate")).toEqual({ kind: "Job", name: "migrate" });
    expect(of("<none>", "<none>")).toEqual({ kind: "Pod", name: "p-x2x4z" });
    expect(ownerByKube("etcd-n1", "n1", "Node", "n1", null)).toEqual({ kind: "Pod", name: "etcd" });
  });
});

/** Puts seconds into a histogram as client_golang does, and gives it in our layout. */
const spread = (into: Durations, seconds: readonly number[]): number[] => {
  for (const le of [...LES, Infinity]) into.add(le, seconds.filter((s) => s <= le).length);
  into.sumMs += seconds.reduce((n, s) => n + s * 1_000, 0);
  const out = Array.from({ length: 108 }, () => 0);
  into.take((bucket, n) => (out[bucket] = (out[bucket] ?? 0) + n));
  return out;
};
const total = (counts: readonly number[]): number => counts.reduce((n, c) => n + c, 0);

describe("durations", () => {
  it("keep every count, and those slower than any of the sender's bounds", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.0001, max: 60, noNaN: true }), { maxLength: 200 }), (seconds) => {
        const counts = spread(new Durations(), seconds);
        expect(total(counts)).toBe(seconds.length);
        for (const le of LES) expect(countSlower(counts, le * 1_000)).toBe(seconds.filter((s) => s > le).length);
      }),
    );
  });

  it("are dealt evenly over what a bucket may mean, also one by one", () => {
    const durations = new Durations();
    const sums = Array.from({ length: 108 }, () => 0);
    for (let i = 0; i < 400; i++)
      spread(durations, [0.3]).forEach((n, bucket) => (sums[bucket] = (sums[bucket] ?? 0) + n));
    const used = sums.filter((n) => n > 0);
    expect(used).toHaveLength(bucketOf(500) - bucketOf(250));
    expect(Math.max(...used) - Math.min(...used)).toBeLessThanOrEqual(1);
  });

  it("take the first and the last bucket for what the sum says", () => {
    expect(spread(new Durations(), [0.002, 0.002, 0.002])[bucketOf(2)]).toBe(3);
    expect(spread(new Durations(), [30, 30])[bucketOf(30_000)]).toBe(2);
  });

  it("survive bounds that are missing, torn or nonsense", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.double(), fc.nat(1_000)), { maxLength: 80 }), (bounds) => {
        const durations = new Durations();
        for (const [le, n] of bounds) durations.add(le, n);
        durations.take((bucket, n) => {
          expect(bucket).toBeGreaterThanOrEqual(0);
          expect(bucket).toBeLessThan(108);
          expect(n).toBeGreaterThan(0);
        });
      }),
    );
  });
});

/** One node's translator, fed by the bytes of calls. */
const bed = () => {
  const reader = new Reader();
  const source = new StockNode("n1", "aa");
  const node = new Translator("stock:aa");
  const windows: DecodedObserve[] = [];
  const take = (samples: Watched): void => void windows.push(...node.take(samples));
  const scrape = (at: number): Watched => {
    const found = reader.read(source.scrape(at)).get("stock:aa");
    if (found === undefined) throw new Error("nothing of a stock agent in it");
    return found;
  };
  const close = (): DecodedObserve => {
    windows.push(...node.close());
    const last = windows.at(-1);
    if (last === undefined) throw new Error("no window");
    return last;
  };
  return { source, node, windows, take, scrape, close };
};

const requestsOf = (windows: readonly DecodedObserve[]): number =>
  windows.reduce((n, { l7 }) => n + l7.count.reduce((sum, count) => sum + count, 0), 0);
const slowOf = (windows: readonly DecodedObserve[]): number =>
  windows.reduce((n, { hist }) => n + hist.count.reduce((sum, count) => sum + count, 0), 0);

describe("a node's scrapes", () => {
  it("say how full the disks are that containers write to, while they say so", () => {
    const { source, take, scrape, close } = bed();
    source.container(AT, []);
    const of = { container_id: AT, mount_point: "/data", device: "sdb", volume: "pvc-1" };
    source.gauge("container_resources_disk_size_bytes", of, 100e9);
    source.gauge("container_resources_disk_used_bytes", of, 70e9);
    source.gauge("container_resources_disk_reserved_bytes", of, 5e9);
    take(scrape(START));
    const told = {
      path: "/data",
      device: "sdb",
      sizeBytes: 100e9,
      usedBytes: 70e9,
      availableBytes: 25e9,
      inodesUsed: 0,
    };
    expect(close().mounts).toEqual([{ instance: close().instances[0]?.id, ...told }]);
    source.unmount("/data");
    take(scrape(START + 15_000));
    expect(close().mounts).toEqual([]);
  });

  it("become windows of the seconds between them", () => {
    const { source, take, scrape, close } = bed();
    source.container(AT, ["10.0.0.1:80"]);
    source.requests(AT, "http_requests", TO, TO, 7, "2xx", 0.04);
    take(scrape(START));
    const first = close();
    expect(first).toMatchObject({ window: START / 1000, span: 15, listens: [{ address: "10.0.0.1", port: 80 }] });
    expect(first.instances).toMatchObject([{ namespace: "n1", kind: "Container", name: "front" }]);
    // What was counted before we came belongs to nobody.
    expect(requestsOf([first])).toBe(0);
    source.requests(AT, "http_requests", TO, TO, 30, "2xx", 0.04);
    source.requests(AT, "http_requests", TO, TO, 3, "5xx", 0.04);
    source.cpu(AT, 1.5);
    take(scrape(START + 15_000));
    const second = close();
    expect(second).toMatchObject({ window: START / 1000 + 15, span: 15, listens: null, instances: [] });
    expect(second.edges).toMatchObject([{ role: 0, peer: "10.0.0.2", port: 5000 }]);
    expect([...second.l7.status].sort()).toEqual([STATUS.ok, STATUS.failed]);
    expect([...second.l7.count].sort((a, b) => a - b)).toEqual([3, 30]);
    expect(slowOf([second])).toBe(33);
    expect([...second.usage.cpuMs]).toEqual([1_500]);
  });

  it("count each request once, whatever is sent again, torn apart, reordered or reset", () => {
    const step = fc.record({
      requests: fc.nat(50),
      again: fc.nat(2),
      parts: fc.integer({ min: 1, max: 4 }),
      reset: fc.boolean(),
      shuffle: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 2, maxLength: 12 }), (steps) => {
        const { source, take, scrape, windows, close } = bed();
        source.container(AT, []);
        let expected = 0;
        let sent = 0;
        steps.forEach(({ requests, again, parts, reset, shuffle }, i) => {
          // A counter that begins anew and has reached its old value cannot be told from one that went on.
          if (reset && i > 0 && requests > 0 && sent > requests) {
            source.restart();
            source.container(AT, []);
            sent = 0;
          }
          if (requests > 0) source.requests(AT, "http_requests", TO, TO, requests, "2xx", 0.02);
          sent += requests;
          if (i > 0) expected += requests;
          const whole = scrape(START + i * 15_000);
          for (let n = 0; n <= again; n++) for (const part of torn(whole, parts, shuffle)) take(part);
          close();
        });
        expect(requestsOf(windows)).toBe(expected);
        expect(slowOf(windows)).toBe(expected);
      }),
      { numRuns: 200 },
    );
  });

  it("do not count over a gap, nor what is a stale marker", () => {
    const { source, take, scrape, windows, close } = bed();
    source.container(AT, []);
    source.requests(AT, "http_requests", TO, TO, 5, "2xx", 0.02);
    take(scrape(START));
    source.requests(AT, "http_requests", TO, TO, 100, "2xx", 0.02);
    take(scrape(START + GAP_MS + 1));
    close();
    expect(requestsOf(windows)).toBe(0);
    source.requests(AT, "http_requests", TO, TO, 10, "2xx", 0.02);
    const stale = scrape(START + GAP_MS + 15_000);
    take({ ...stale, values: stale.values.map(() => Number.NaN) });
    close();
    source.requests(AT, "http_requests", TO, TO, 10, "2xx", 0.02);
    take(scrape(START + GAP_MS + 30_000));
    close();
    expect(requestsOf(windows)).toBe(20);
  });

  it("of a large node, in many parts, still say at once that a container is gone", () => {
    const { source, node, windows, scrape } = bed();
    for (let c = 0; c < 300; c++) source.container(`/docker/c${c}`, []);
    for (let i = 0; i < 3; i++) {
      if (i === 2) source.remove("/docker/c7");
      const parts = partsOf(scrape(START + i * 15_000));
      expect(parts.length).toBeGreaterThan(2);
      for (const { samples, goesOn } of parts) windows.push(...node.take(samples, goesOn));
      windows.push(...node.close());
    }
    expect(windows.map(({ gone }) => gone.length)).toEqual([0, 0, 1]);
    expect(windows.map(({ usage }) => usage.rows)).toEqual([300, 300, 299]);
  });

  it("that come in parts wait for the node's name, and go by its id when it does not come", () => {
    const { source, node, take, scrape } = bed();
    source.container(AT, []);
    const isName = (name: string): boolean => name === "node_info";
    const [named, nameless] = [true, false].map((name) => only(scrape(START), (one) => isName(one) === name));
    take(nameless ?? scrape(START));
    expect(node.close()).toEqual([]);
    take(named ?? scrape(START));
    take(only(scrape(START + 15_000), (one) => !isName(one)));
    expect(node.close()[0]?.instances).toMatchObject([{ namespace: "n1", name: "front" }]);
    const other = bed();
    other.source.container(AT, []);
    const windows = [0, 1, 2].flatMap((i) => {
      other.take(only(other.scrape(START + i * 15_000), (one) => !isName(one)));
      return other.node.close();
    });
    expect(windows).toHaveLength(1);
    expect(windows[0]?.instances).toMatchObject([{ namespace: "stock:aa" }]);
  });

  it("say what they could not take, and stay within their bounds", () => {
    const { source, node, take, scrape, close } = bed();
    source.container(AT, []);
    source.gauge("container_wonders_total", { container_id: AT }, 1);
    source.gauge("container_info", { container_id: "/unheard/of", image: "" }, 1);
    for (let i = 0; i < LIMITS.containers + 5; i++)
      source.gauge("container_info", { container_id: `/docker/c${i}`, image: "" }, 1);
    take(scrape(START));
    close();
    expect(Object.fromEntries(node.losses)).toMatchObject({
      "series of containers that are not known": 1,
      "containers whose id has an unknown form": 1,
      [`series of containers beyond ${LIMITS.containers}`]: 7,
    });
  });

  it("translate fast enough that nobody notices", () => {
    const { source, take, scrape, close } = bed();
    for (let c = 0; c < 50; c++) {
      source.container(`/docker/c${c}`, [`10.0.0.1:${1000 + c}`]);
      for (let to = 0; to < 10; to++)
        source.requests(`/docker/c${c}`, "http_requests", `10.0.1.${to}:80`, `10.0.2.${to}:80`, 100, "2xx", 0.04);
    }
    take(scrape(START));
    close();
    const next = scrape(START + 15_000);
    const before = process.cpuUsage();
    take(next);
    close();
    const { user, system } = process.cpuUsage(before);
    expect(next.times.length).toBeGreaterThan(7_500);
    // 7,500 samples of a node; a bar far above what it takes, since the machine is shared
    expect((user + system) / 1_000).toBeLessThan(250);
  });
});

/** The samples of some names. */
const only = (whole: Watched, wanted: (name: string) => boolean): Watched => {
  const some = whole.series.flatMap(({ name }, i) => (wanted(name) ? [i] : []));
  return partOf(whole, some);
};

/** The same samples in several calls. */
const torn = (whole: Watched, parts: number, shuffle: boolean): Watched[] => {
  const places = whole.series.map((_, i) => i);
  if (shuffle) places.reverse();
  return Array.from({ length: parts }, (_, part) => {
    const some = places.filter((i) => i % parts === part);
    return partOf(whole, some);
  });
};

/** Series by their places, one sample each. */
const partOf = (whole: Watched, some: readonly number[]): Watched => {
  const rows = some.map((i) => whole.starts[i] ?? 0);
  return {
    series: some.flatMap((i) => whole.series[i] ?? []),
    starts: Uint32Array.from({ length: some.length + 1 }, (_row, i) => i),
    times: Float64Array.from(rows, (row) => whole.times[row] ?? 0),
    values: Float64Array.from(rows, (row) => whole.values[row] ?? 0),
  };
};

describe("what a cluster agent is told to collect from", () => {
  const of = (name: string, types: readonly string[]) => ({
    service: `default/shop/StatefulSet/${name}` as ServiceId,
    name,
    namespace: "shop",
    types,
  });
  const listen = (name: string, address: string, port: number) => ({
    service: `default/shop/StatefulSet/${name}` as ServiceId,
    address,
    port,
  });
  const logins: readonly Login[] = [
    { match: "*/shop/*/pg", username: "coroot", password: "secret", params: { sslmode: "require" } },
  ];

  it("are databases with a login, and those that need none", () => {
    const found = instrumentation(
      [of("pg", ["postgres"]), of("other", ["postgres"]), of("cache", ["", "redis"]), of("web", ["http"])],
      [
        listen("pg", "10.0.0.1", 5432),
        listen("pg", "10.0.0.1", 8008),
        listen("other", "10.0.0.2", 5432),
        listen("cache", "10.0.0.3", 7000),
      ],
      logins,
    );
    expect(found).toEqual([
      {
        type: "postgres",
        host: "10.0.0.1",
        port: "5432",
        credentials: { username: "coroot", password: "secret" },
        params: { sslmode: "require" },
        instance: "ns=shop app=pg instance=10.0.0.1",
      },
      {
        type: "redis",
        host: "10.0.0.3",
        port: "7000",
        credentials: { username: "", password: "" },
        params: {},
        instance: "ns=shop app=cache instance=10.0.0.3",
      },
    ]);
  });
});
