/**
 * Our own HTTP routes, declared once: what each answers, and the permission it needs. The page's socket and these read
 * the same topics (wire/page.ts describes their entries). Implemented in runtime/http/Api.ts.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema } from "@effect/platform";
import { Context, Schema } from "effect";

/** What a caller must be allowed to do; checked once access control is built, stated from the first route on. */
export type PermissionName =
  | "overview:read"
  | "services:read"
  | "incidents:read"
  | "agents:read"
  | "console:read"
  | "history:read";
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

/** At most this much history in one answer. */
export const MAX_HISTORY_MS = 7 * 86_400_000;

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
  .add(topic("map", "/map", "services:read"))
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

export class Api extends HttpApi.make("coroot").add(ReadGroup).prefix("/api") {}
