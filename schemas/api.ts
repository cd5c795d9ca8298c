/**
 * Our own HTTP routes, declared once: what each answers, and the permission it needs. The page's socket and these read
 * the same topics (wire/page.ts describes their entries). Implemented in runtime/http/Api.ts.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema } from "@effect/platform";
import { Context, Schema } from "effect";
import type {
  AttributeComparison,
  ErrorCauses,
  HeatMap,
  LogFacets,
  LogHistogram,
  LogLine,
  LogPatterns,
  Page,
  SpanEdge,
  Endpoints,
  SpanRow,
  Trace,
} from "./telemetry.ts";

/** What a caller must be allowed to do; checked once access control is built, stated from the first route on. */
export type PermissionName =
  | "overview:read"
  | "services:read"
  | "incidents:read"
  | "agents:read"
  | "incidents:write"
  | "silences:write"
  | "console:read"
  | "console:admin"
  | "history:read"
  | "telemetry:read"
  | "store:query";
export class Permission extends Context.Tag("schemas/api/Permission")<Permission, PermissionName>() {}

/** A topic as it is now: the same entries that `/live` sends as a snapshot. */
export const TopicAnswer = Schema.Struct({
  topic: Schema.String,
  nowMs: Schema.Number,
  entries: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
});
export type TopicAnswer = typeof TopicAnswer.Type;

export class NotFound extends Schema.TaggedError<NotFound>()(
  "NotFound",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 404 }),
) {}
export class BadRequest extends Schema.TaggedError<BadRequest>()(
  "BadRequest",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 400 }),
) {}
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 503 }),
) {}

export class Forbidden extends Schema.TaggedError<Forbidden>()(
  "Forbidden",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 403 }),
) {}

/** At most this much history in one answer. */
export const MAX_HISTORY_MS = 7 * 86_400_000;

/** At most so many rows of one query. */
export const MAX_QUERY_ROWS = 10_000;

const nullable = Schema.NullOr(Schema.Number);
export const HistoryAnswer = Schema.Struct({
  service: Schema.String,
  from: Schema.Number,
  to: Schema.Number,
  points: Schema.Array(
    Schema.Struct({
      ts: Schema.Number,
      requests: Schema.Number,
      errors: Schema.Number,
      p50: nullable,
      p95: nullable,
      p99: nullable,
      cpu: nullable,
      memory: nullable,
    }),
  ),
});

const topic = <const Name extends string>(name: Name, path: `/${string}`, permission: PermissionName) =>
  HttpApiEndpoint.get(name, path).addSuccess(TopicAnswer).addError(Unavailable).annotate(Permission, permission);

const id = HttpApiSchema.param("id", Schema.String);

export class ReadGroup extends HttpApiGroup.make("read")
  .add(topic("overview", "/overview", "overview:read"))
  .add(topic("services", "/services", "services:read"))
  .add(
    topic("service", "/service", "services:read")
      .setUrlParams(Schema.Struct({ id: Schema.String }))
      .addError(NotFound),
  )
  .add(
    topic("map", "/map", "services:read")
      // milliseconds since the epoch: the map of that moment, without figures; left out: the map of now
      .setUrlParams(Schema.Struct({ at: Schema.optional(Schema.NumberFromString) }))
      .addError(BadRequest),
  )
  .add(topic("incidents", "/incidents", "incidents:read"))
  .add(
    HttpApiEndpoint.get("incident")`/incidents/${id}`
      .addSuccess(TopicAnswer)
      .addError(NotFound)
      .addError(Unavailable)
      .annotate(Permission, "incidents:read"),
  )
  .add(topic("agents", "/agents", "agents:read"))
  .add(topic("actors", "/actors", "console:read"))
  .add(topic("deadLetters", "/actors/dead-letters", "console:read"))
  .add(topic("trace", "/actors/trace", "console:read").setUrlParams(Schema.Struct({ id: Schema.NumberFromString })))
  .add(
    topic("actor", "/actor", "console:read")
      .setUrlParams(Schema.Struct({ path: Schema.String }))
      .addError(NotFound),
  )
  .add(
    HttpApiEndpoint.get("history", "/history")
      // milliseconds since the epoch
      .setUrlParams(
        Schema.Struct({ service: Schema.String, from: Schema.NumberFromString, to: Schema.NumberFromString }),
      )
      .addSuccess(HistoryAnswer)
      .addError(BadRequest)
      .addError(Unavailable)
      .annotate(Permission, "history:read"),
  ) {}

const Done = Schema.Struct({ done: Schema.Literal(true) });
const MAX_TEXT = 500;
const shortText = Schema.String.pipe(Schema.maxLength(MAX_TEXT));
/** At most this long: a silence that nobody remembers hides the next fault. */
export const MAX_SILENCE_MINUTES = 30 * 24 * 60;

/** What people decide about incidents. */
export class IncidentGroup extends HttpApiGroup.make("decide")
  .add(
    HttpApiEndpoint.post("acknowledge")`/incidents/${id}/acknowledge`
      .setPayload(Schema.Struct({ note: Schema.optionalWith(shortText, { default: () => "" }) }))
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unavailable)
      .annotate(Permission, "incidents:write"),
  )
  .add(
    HttpApiEndpoint.del("unacknowledge")`/incidents/${id}/acknowledge`
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unavailable)
      .annotate(Permission, "incidents:write"),
  )
  .add(topic("silences", "/silences", "incidents:read"))
  .add(
    HttpApiEndpoint.post("silence", "/silences")
      .setPayload(
        Schema.Struct({
          // a service id in which * stands for anything, or the id of an incident
          match: shortText.pipe(Schema.minLength(1)),
          minutes: Schema.Int.pipe(Schema.between(1, MAX_SILENCE_MINUTES)),
          reason: shortText.pipe(Schema.minLength(1)),
        }),
      )
      .addSuccess(Schema.Struct({ id: Schema.String, until: Schema.Number }))
      .addError(Unavailable)
      .annotate(Permission, "silences:write"),
  )
  .add(
    HttpApiEndpoint.del("unsilence")`/silences/${id}`
      .addSuccess(Done)
      .addError(NotFound)
      .addError(Unavailable)
      .annotate(Permission, "silences:write"),
  ) {}

const MAX_SQL = 100_000;

/** Read-only SQL over what is kept. */
export class QueryGroup extends HttpApiGroup.make("query").add(
  HttpApiEndpoint.post("query", "/query")
    .setPayload(
      Schema.Struct({
        sql: Schema.String.pipe(Schema.minLength(1), Schema.maxLength(MAX_SQL)),
        // values of {name:Type} places
        params: Schema.optionalWith(Schema.Record({ key: Schema.String, value: Schema.String }), {
          default: () => ({}),
        }),
        rows: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, MAX_QUERY_ROWS)), { default: () => 1_000 }),
      }),
    )
    .addSuccess(
      Schema.Struct({
        columns: Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String })),
        rows: Schema.Array(Schema.Array(Schema.Unknown)),
        truncated: Schema.Boolean,
      }),
    )
    .addError(BadRequest)
    .addError(Unavailable)
    .annotate(Permission, "store:query"),
) {}

/** At most this much time in one flame graph. */
export const MAX_FLAME_MS = 31 * 86_400_000;

const ProfileKind = Schema.Literal("rate", "average", "sum");

/** A type of profile that a service has, and what its values mean. */
export const ProfileTypeAnswer = Schema.Struct({
  /** "cpu:nanoseconds" or, with its source, "go:heap_inuse_space:bytes" */
  type: Schema.String,
  /** rate: CPU, in cores · average: of the moments that profiles show · sum: of all profiles */
  kind: ProfileKind,
  /** of the values as they are answered */
  unit: Schema.String,
  /** milliseconds since the epoch */
  lastSeen: Schema.Number,
});
export type ProfileTypeAnswer = typeof ProfileTypeAnswer.Type;

/** Long arrays, checked as a whole. */
const columnOf = <T>(type: "number" | "string") =>
  Schema.declare(
    (value: unknown): value is readonly T[] => Array.isArray(value) && typeof (value[0] ?? "") !== "object",
    {
      identifier: `${type}s`,
    },
  );
const numbers = columnOf<number>("number");
const texts = columnOf<string>("string");

const profiled = {
  from: Schema.Number,
  to: Schema.Number,
  /** how many profiles began in the range, and how long they lasted together */
  profiles: Schema.Number,
  seconds: Schema.Number,
  /** per node: of itself, and with its children */
  self: numbers,
  total: numbers,
};

/**
 * A flame graph as columns: nodes in the order of a walk from the root, so that the parent of a node is the last one before
 * it with a smaller depth. Rates and averages are those of one profiled instance.
 */
export const FlameAnswer = Schema.Struct({
  service: Schema.String,
  type: Schema.String,
  kind: ProfileKind,
  unit: Schema.String,
  ...profiled,
  /** functions by number, and the files that they are in; 0 is the root, 1 stands for nodes that were merged */
  names: texts,
  files: texts,
  /** per node: 0 for the root; and its function */
  depth: numbers,
  frame: numbers,
  /** the same nodes in the range that it is compared with */
  base: Schema.NullOr(Schema.Struct(profiled)),
  /** nodes that were too small to be told apart */
  merged: Schema.Number,
  /** stacks that the store does not have any more */
  unknown: Schema.Number,
});
export type FlameAnswer = typeof FlameAnswer.Type;

/** Rows that the server made itself, of which there may be thousands: their shape is a type, not checked one by one. */
const answer = <A extends object>() =>
  Schema.declare((value): value is A => typeof value === "object" && value !== null);

/** Texts, as they come: runtime/http/parameters.ts reads them, and says of a wrong one what it expected. */
const text = Schema.optional(Schema.String);
const severalTexts = Schema.optional(Schema.Array(Schema.String));

/** Milliseconds since the epoch, `to` exclusive; left out: the last hour. */
const range = { from: text, to: text };
/** `service`: any of them. `attr`, all of them: key=value or key!=value, of the record or its resource. */
const whose = { ...range, service: severalTexts, attr: severalTexts };

const logFilter = {
  ...whose,
  // the least: trace, debug, info, warning, error, fatal
  severity: text,
  // words, "phrases", -without
  q: text,
  traceId: text,
  // number of a pattern
  pattern: text,
};

const spanFilter = {
  ...whose,
  name: text,
  // internal, server, client, producer, consumer
  kind: text,
  // unset, ok, error
  status: text,
  // at least, and less than so many milliseconds
  minMs: text,
  maxMs: text,
  // true: only spans without a parent, one for each trace
  roots: text,
};

/** `limit` rows, and those behind where the page before ended, as its `next` says. */
const paging = { limit: text, cursor: text };

const question = <const Name extends string, A extends object>(
  name: Name,
  path: `/${string}`,
  success: Schema.Schema<A>,
) =>
  HttpApiEndpoint.get(name, path)
    .addSuccess(success)
    .addError(BadRequest)
    .addError(Unavailable)
    .annotate(Permission, "telemetry:read");

/** What others sent, as it is kept. The rows of logs and traces are described in telemetry.ts. */
export class TelemetryGroup extends HttpApiGroup.make("telemetry")
  .add(question("logs", "/logs", answer<Page<LogLine>>()).setUrlParams(Schema.Struct({ ...logFilter, ...paging })))
  .add(question("logFacets", "/logs/facets", answer<LogFacets>()).setUrlParams(Schema.Struct(logFilter)))
  .add(
    question("logHistogram", "/logs/histogram", answer<LogHistogram>()).setUrlParams(
      Schema.Struct({ ...logFilter, steps: text }),
    ),
  )
  .add(
    question("logPatterns", "/logs/patterns", answer<LogPatterns>()).setUrlParams(
      Schema.Struct({ ...logFilter, steps: text, limit: text }),
    ),
  )
  .add(
    question("traces", "/traces", answer<Page<SpanRow>>()).setUrlParams(
      // order: newest or slowest
      Schema.Struct({ ...spanFilter, ...paging, order: text }),
    ),
  )
  .add(
    HttpApiEndpoint.get("trace")`/traces/${id}`
      .addSuccess(answer<Trace>())
      .addError(BadRequest)
      .addError(NotFound)
      .addError(Unavailable)
      .annotate(Permission, "telemetry:read"),
  )
  .add(
    question("traceHeatmap", "/traces/heatmap", answer<HeatMap>()).setUrlParams(
      Schema.Struct({ ...spanFilter, steps: text }),
    ),
  )
  .add(
    question("traceErrors", "/traces/errors", answer<ErrorCauses>()).setUrlParams(
      Schema.Struct({ ...spanFilter, limit: text }),
    ),
  )
  .add(
    question("traceEndpoints", "/traces/endpoints", answer<Endpoints>()).setUrlParams(
      Schema.Struct({ from: text, to: text, service: text, limit: text }),
    ),
  )
  .add(
    question("traceAttributes", "/traces/attributes", answer<AttributeComparison>()).setUrlParams(
      Schema.Struct({
        ...spanFilter,
        // which of the spans are set against the others
        selectedFrom: text,
        selectedTo: text,
        selectedMinMs: text,
        selectedMaxMs: text,
        selectedStatus: text,
      }),
    ),
  )
  .add(
    question("spanEdges", "/span-edges", answer<{ readonly edges: readonly SpanEdge[] }>()).setUrlParams(
      Schema.Struct({ ...range, service: severalTexts }),
    ),
  )
  .add(
    HttpApiEndpoint.get("profileTypes", "/profiles/types")
      .setUrlParams(Schema.Struct({ service: Schema.String }))
      .addSuccess(Schema.Struct({ service: Schema.String, types: Schema.Array(ProfileTypeAnswer) }))
      .addError(BadRequest)
      .addError(Unavailable)
      .annotate(Permission, "telemetry:read"),
  )
  .add(
    HttpApiEndpoint.get("flame", "/profiles/flame")
      // milliseconds since the epoch; base_from and base_to: the range that it is compared with
      .setUrlParams(
        Schema.Struct({
          service: Schema.String,
          type: Schema.String,
          from: Schema.NumberFromString,
          to: Schema.NumberFromString,
          base_from: Schema.optional(Schema.NumberFromString),
          base_to: Schema.optional(Schema.NumberFromString),
          pod: Schema.optional(Schema.String),
          host: Schema.optional(Schema.String),
        }),
      )
      .addSuccess(FlameAnswer)
      .addError(BadRequest)
      .addError(Unavailable)
      .annotate(Permission, "telemetry:read"),
  ) {}

/** Actor paths, as they go to the audit log: as long as a topic's name may be. */
const actorPath = Schema.String.pipe(Schema.minLength(1), Schema.maxLength(2048));

/** `Bearer <admin key>`, until access control exists: the key is admin.key in the data directory. */
const AdminHeaders = Schema.Struct({ authorization: Schema.optional(Schema.String) });

/** An operator's hand in the server. Every request is written to the audit log before it is carried out. */
export class AdminGroup extends HttpApiGroup.make("admin")
  .add(
    HttpApiEndpoint.post("act", "/actors/action")
      .setHeaders(AdminHeaders)
      .setPayload(Schema.Struct({ path: actorPath, action: Schema.Literal("pause", "resume", "drain", "restart") }))
      .addSuccess(Schema.Struct({ node: Schema.String }))
      .addError(NotFound)
      .addError(Forbidden)
      .addError(Unavailable)
      .annotate(Permission, "console:admin"),
  )
  .add(
    HttpApiEndpoint.get("dump", "/actors/dump")
      .setHeaders(AdminHeaders)
      .setUrlParams(Schema.Struct({ path: actorPath }))
      .addSuccess(Schema.Unknown)
      .addError(NotFound)
      .addError(Forbidden)
      .addError(Unavailable)
      .annotate(Permission, "console:admin"),
  )
  .add(
    HttpApiEndpoint.get("audit", "/audit")
      .setHeaders(AdminHeaders)
      .addSuccess(
        Schema.Array(
          Schema.Struct({
            at: Schema.Number,
            who: Schema.String,
            action: Schema.String,
            target: Schema.String,
            outcome: Schema.String,
          }),
        ),
      )
      .addError(Forbidden)
      .addError(Unavailable)
      .annotate(Permission, "console:admin"),
  ) {}

export class Api extends HttpApi.make("coroot")
  .add(ReadGroup)
  .add(IncidentGroup)
  .add(QueryGroup)
  .add(TelemetryGroup)
  .add(AdminGroup)
  .prefix("/api") {}
