/**
 * The node agent: probe, host readers, fold, spool and link composed into one scoped program. Whoever runs it owns it.
 * The probe is supervised apart and may be missing; then frames go on from /proc. A server that is away costs windows
 * older than four minutes (counted), never samples (spooled). Closing the scope flushes what is ready and ends the child.
 */
import { readFileSync } from "node:fs";
import { hostname, release } from "node:os";
import { join } from "node:path";
import { Clock, Deferred, Duration, Effect, type Scope } from "effect";
import { encodeFrame } from "../../schemas/wire/codec.ts";
import { FRAME, PROTOCOL } from "../../schemas/wire/frame.ts";
import type { Capability, HelloBody, StoreBody } from "../../schemas/wire/link.ts";
import { openHome, readKey, AgentFileError } from "./AgentHome.ts";
import { hostCapabilities, mayLookInside, tlsCapability } from "./capabilities.ts";
import { parseCgroupMounts } from "./host/cgroups.ts";
import { readNode } from "./host/nodeFigures.ts";
import type { Process } from "./host/ProcessTable.ts";
import { makeContainerNaming } from "./identity/ContainerNaming.ts";
import { makeLink, type Link } from "./link/Link.ts";
import { putObserved, SampleSet } from "./metrics/Samples.ts";
import { serveMetrics } from "./metrics/MetricsPage.ts";
import { putSelf, SelfFigures } from "./metrics/SelfFigures.ts";
import { SelfReport, type Look } from "./metrics/SelfReport.ts";
import type { Instance } from "./observe/Instances.ts";
import { Observer } from "./observe/Observer.ts";
import { makeProbe } from "./probe/Probe.ts";
import type { ProbeTick } from "./probe/ProbeTick.ts";
import { Spans } from "./spans/Spans.ts";
import { Thresholds } from "./spans/Thresholds.ts";
import { Spool } from "./spool/Spool.ts";

export interface NodeAgentOptions {
  /** ws://HOST:PORT/agent of each server of the deployment; any of them will do */
  readonly servers: readonly string[];
  readonly keyFile: string;
  readonly dataDir: string;
  /** the probe's executable, null where none was built */
  readonly probePath: string | null;
  readonly cluster: string;
  readonly node?: string;
  /** false: no probe, whatever `probePath` says */
  readonly traffic: boolean;
  /** the probe's own, see `probe --help` */
  readonly probeArguments?: readonly string[];
  readonly version?: string;
  /** bound of the spool on disk */
  readonly spoolBytes?: number;
  /** HOST:PORT to serve /metrics on; left out: it is not served */
  readonly metrics?: string;
}

/** What can be seen of a running agent, for its owner and for tests. */
export interface NodeAgent {
  readonly agentId: string;
  readonly epoch: number;
  readonly observer: Observer;
  readonly link: Link;
  readonly spool: Spool;
  readonly capabilities: () => readonly Capability[];
  /** port of /metrics; null: not served */
  readonly metricsPort: number | null;
  /** Ends the running window and writes a last round of samples; for a stop that loses nothing. */
  readonly flush: Effect.Effect<void>;
}

const SAMPLES_EVERY_MS = 15_000;
const SPANS_EVERY_MS = 5_000;
/** windows */
const REPORT_EVERY = 5;
const SPOOL_BYTES = 256 * 1024 * 1024;
const SEGMENT_BYTES = 1024 * 1024;
/** Ten minutes: a segment that is not full goes too, so that what was acknowledged leaves the disk. */
const SEGMENT_RECORDS = 40;
/** The probe ends a window with its tick; without one for this long the clock does. */
const TICK_OVERDUE_MS = 1_400;
/** A stop waits for the probe's next tick, which comes each second. */
const FLUSH_WAIT = Duration.millis(1_300);
const PROBE_WAIT = Duration.seconds(3);
const CAPABILITIES_EVERY_MS = 5_000;
const REFRESH_AT_MOST_MS = 60_000;
const DOCKER_SOCKET = "/run/docker.sock";

const probeOff = (reason: string): Capability => ({ feature: "probe", state: "off", errno: 0, reason });

export const makeNodeAgent = (options: NodeAgentOptions): Effect.Effect<NodeAgent, AgentFileError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock;
    const startedNs = clock.unsafeCurrentTimeNanos();
    const monoMs = (): number => Number(clock.unsafeCurrentTimeNanos() - startedNs) / 1e6;
    const wallMs = (): number => clock.unsafeCurrentTimeMillis();
    const home = yield* openHome(options.dataDir, yield* Clock.currentTimeMillis);
    const node = options.node ?? hostname();
    const version = options.version ?? "";

    const mounts = parseCgroupMounts(yield* readProc("/proc/self/mountinfo"));
    const uptimeMs = Number.parseFloat(yield* readProc("/proc/uptime")) * 1000;
    const inside = mayLookInside(yield* readProc("/proc/self/status"));
    const spool = yield* Effect.acquireRelease(
      Effect.try({
        try: () =>
          new Spool({
            folder: join(options.dataDir, "spool"),
            maxBytes: options.spoolBytes ?? SPOOL_BYTES,
            segmentBytes: SEGMENT_BYTES,
            segmentRecords: SEGMENT_RECORDS,
          }),
        catch: (error) =>
          new AgentFileError({
            file: join(options.dataDir, "spool"),
            expected: "a folder for unsent telemetry",
            detail: error instanceof Error ? error.message : String(error),
          }),
      }),
      (opened) => Effect.sync(() => opened.close()),
    );

    const naming = yield* makeContainerNaming(DOCKER_SOCKET, monoMs, (id, name) => {
      const instance = asked.get(id);
      if (instance === undefined) return;
      asked.delete(id);
      observer.instances.named(instance, name?.name ?? instance.identity.name, name?.namespace ?? null);
    });
    const asked = new Map<string, Instance<Process>>();
    const observer = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new Observer({
            node,
            bootMs: wallMs() - uptimeMs,
            mounts,
            onContainer: (instance) => {
              const id = instance.identity.container;
              if (id === null) return;
              asked.set(id, instance);
              naming.ask(id);
            },
          }),
      ),
      (made) => Effect.sync(() => made.close()),
    );

    let probeCapabilities: readonly Capability[] = [
      !options.traffic
        ? probeOff("observing traffic is turned off by configuration")
        : options.probePath === null
          ? probeOff("the probe was not built for this machine")
          : probeOff("the probe is starting"),
    ];
    const capabilities = (): readonly Capability[] => [
      ...probeCapabilities,
      ...tlsCapability(observer.unreadTls()),
      ...hostCapabilities({
        mounts,
        mayLookInside: inside,
        processErrno: observer.table.refusedErrno,
        listenerErrno: observer.listeners.refusedErrno,
        runtime: naming.refusal(),
        spoolError: spool.stats.lastError,
      }),
    ];

    const spans = new Spans({
      ownerOf: (edge) => observer.fold.ownerOf(edge),
      instance: (id) => observer.instances.all.get(id),
      host: node,
      cluster: options.cluster,
      agentId: home.agentId,
    });
    const thresholds = new Thresholds(options.cluster);
    const self = new SelfFigures();
    const report = new SelfReport();
    const samples = new SampleSet();
    let link: Link | null = null;
    let lastWindow = -1;
    let lastSampleMs = monoMs();
    let lastSpansMs = monoMs();
    let sequence = 0;
    let windowEnded: Deferred.Deferred<void> | null = null;

    const sample = (): void => {
      const now = monoMs();
      lastSampleMs = now;
      samples.begin();
      const common = { cluster: options.cluster, machineId: home.machineId };
      putObserved(samples.put, observer, common);
      const machine = (name: string, labels: Readonly<Record<string, string>>, value: number): void =>
        samples.put(name, { ...labels, machine_id: home.machineId }, value);
      readNode(observer.reader, "/proc", machine);
      observer.disks.putNode(machine);
      machine("node_info", { hostname: node, kernel_version: release() }, 1);
      machine("node_agent_info", { version }, 1);
      putSelf(machine, {
        self,
        observer,
        spans: spans.figures,
        spool,
        link: link?.state() ?? null,
        series: samples.size,
      });
      const head = { epoch: home.epoch, sequence: sequence++, monoMs: now, dropped: spool.stats.dropped };
      if (spool.append(head.epoch, head.sequence, (first) => samples.encode(head, wallMs(), first))) spool.sync();
      link?.storeReady();
    };

    /** Spans go through the spool as samples do: the same bytes again are the same batch, and stored once. */
    const sendSpans = (all: boolean): void => {
      const now = monoMs();
      lastSpansMs = now;
      if (link !== null) {
        const { fold, instances } = observer;
        const commands = thresholds.commands(link.policy(), fold.allSources(), (id) => instances.all.get(id));
        if (commands !== "") probe?.say(commands);
      }
      const bytes = spans.take(now, all);
      if (bytes === null) return;
      const head = { epoch: home.epoch, sequence: sequence++, monoMs: now, dropped: spool.stats.dropped };
      const make = (first: boolean): Uint8Array => {
        if (first) samples.renew();
        return encodeFrame(FRAME.store, { ...head, spans: bytes } satisfies StoreBody);
      };
      if (spool.append(head.epoch, head.sequence, make)) spool.sync();
      link?.storeReady();
    };

    const look = (now: number, { state }: Link): Look => {
      const { user, system } = process.cpuUsage();
      return {
        monoMs: now,
        cpuMs: (user + system) / 1000,
        memoryBytes: process.memoryUsage.rss(),
        loopLateMs: self.takeLateForReport(),
        windowsWaiting: state().ring.length,
        spool: {
          bytes: spool.stats.bytes,
          maxBytes: options.spoolBytes ?? SPOOL_BYTES,
          records: spool.stats.waiting,
        },
        tcpBytes: observer.fold.tcpBytes,
        probe: observer.probeSelf,
        losses: {
          seconds: state().counters.windowsDropped,
          samples: spool.stats.dropped,
          requestsWithoutOwner: observer.fold.losses.unattributedRequests,
          probeRestarts: Math.max(0, observer.probeLives - 1),
        },
      };
    };

    /** Ends a window, if its number is due: numbers never repeat and never run ahead of the clock by more than one. */
    const endWindow = (): void => {
      const now = monoMs();
      // A timer may fire a little early.
      const due = Math.floor((now + 20) / 1000);
      const number = Math.max(due, lastWindow + 1);
      if (link === null || number > due + 1) return;
      lastWindow = number;
      const window = observer.observe(number, { monoMs: now, wallMs: wallMs() });
      link.offer(number % REPORT_EVERY === 0 ? { ...window, self: report.tell(look(now, link)) } : window);
      if (now - lastSampleMs >= SAMPLES_EVERY_MS - 500) sample();
      if (now - lastSpansMs >= SPANS_EVERY_MS - 500) sendSpans(false);
      if (windowEnded !== null) Deferred.unsafeDone(windowEnded, Effect.void);
    };

    const ready = yield* Deferred.make<void>();
    let tickedMs = Number.NEGATIVE_INFINITY;
    const probe =
      options.probePath === null || !options.traffic
        ? null
        : yield* makeProbe({
            path: options.probePath,
            args: options.probeArguments ?? [],
            onTick: (tick: ProbeTick) =>
              Effect.sync(() => {
                tickedMs = monoMs();
                const clocks = { monoMs: tickedMs, wallMs: wallMs() };
                observer.absorb(tick, clocks);
                spans.absorb(tick, clocks);
                if (tick.reset) thresholds.forget();
                endWindow();
              }),
            onCapabilities: (list) =>
              Effect.suspend(() => {
                probeCapabilities = list;
                if (list.every((one) => one.state === "off")) observer.probeLost();
                return Deferred.succeed(ready, undefined);
              }),
          });
    // The greeting tells what works, so a probe gets the time to say so.
    if (probe !== null) yield* Deferred.await(ready).pipe(Effect.timeoutOption(PROBE_WAIT));

    const hello = Effect.gen(function* () {
      const key = yield* readKey(options.keyFile);
      return {
        protocol: [PROTOCOL.major, PROTOCOL.minor],
        agentId: home.agentId,
        epoch: home.epoch,
        cluster: options.cluster,
        node,
        key,
        version,
        monoMs: monoMs(),
        wallMs: wallMs(),
        kernel: release(),
        capabilities: capabilities(),
      } satisfies HelloBody;
    });
    link = yield* makeLink({
      urls: options.servers,
      epoch: home.epoch,
      catalog: observer.catalog,
      spool,
      hello,
      monoMs,
    });
    const made = link;
    const metricsPort =
      options.metrics === undefined ? null : yield* serveMetrics(options.metrics, () => samples.text());

    yield* Effect.forkScoped(
      Effect.gen(function* () {
        let told = JSON.stringify(capabilities());
        let lookedMs = monoMs();
        let refreshedMs = Number.NEGATIVE_INFINITY;
        for (;;) {
          const due = (Math.floor(monoMs() / 1000) + 1) * 1000;
          yield* Effect.sleep(Duration.millis(due - monoMs()));
          self.late(monoMs() - due);
          if (monoMs() - tickedMs > TICK_OVERDUE_MS) endWindow();
          if (monoMs() - lookedMs < CAPABILITIES_EVERY_MS) continue;
          lookedMs = monoMs();
          const now = JSON.stringify(capabilities());
          if (now === told || monoMs() - refreshedMs < REFRESH_AT_MOST_MS) continue;
          told = now;
          refreshedMs = monoMs();
          made.refresh();
        }
      }),
    );
    const flush = Effect.gen(function* () {
      const ended = yield* Deferred.make<void>();
      windowEnded = ended;
      yield* Deferred.await(ended).pipe(Effect.timeoutOption(FLUSH_WAIT));
      sendSpans(true);
      sample();
    });
    return { flush, metricsPort, agentId: home.agentId, epoch: home.epoch, observer, link: made, spool, capabilities };
  });

const readProc = (path: string): Effect.Effect<string, AgentFileError> =>
  Effect.try({
    try: () => readFileSync(path, "utf8"),
    catch: (error) =>
      new AgentFileError({
        file: path,
        expected: "Linux with /proc mounted",
        detail: error instanceof Error ? error.message : String(error),
      }),
  });
