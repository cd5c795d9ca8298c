/**
 * One HTTP address of a metrics store elsewhere, to write to or to read from: user and password of its URL, the configured
 * headers, a few kept connections. Owned by whoever writes or asks, who closes it. A store that does not answer is a
 * NoAnswer; a status is the caller's to judge, a redirect as well: none is followed, so that headers reach nobody else. An
 * answer is read up to a bound. Whoever interrupts a request aborts it. What is shown of it has no secrets.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { Data, Effect } from "effect";

export interface EndpointConfig {
  readonly url: string;
  /** added to each request, e.g. Authorization or X-Scope-OrgID */
  readonly headers: Readonly<Record<string, string>>;
}

export class NoAnswer extends Data.TaggedError("NoAnswer")<{ readonly message: string }> {}

export interface EndpointRequest {
  readonly method: "GET" | "POST";
  /** below the configured path, e.g. `/api/v1/query` */
  readonly path?: string;
  readonly search?: URLSearchParams;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** of the answer's body; the rest is not read */
  readonly maxBytes: number;
}

export interface EndpointAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** false: it was longer than the bound */
  readonly whole: boolean;
}

export interface MetricsEndpoint {
  /** its URL without user, password and parameters, for messages */
  readonly shown: string;
  readonly send: (request: EndpointRequest) => Effect.Effect<EndpointAnswer, NoAnswer>;
  readonly close: () => void;
}

/** Without a byte for so long a request is over. */
const SILENCE_MS = 30_000;

/** `url` without what may be secret in it. */
export const shownUrl = (url: string): string => {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname === "/" ? "" : pathname}`;
};

export const makeMetricsEndpoint = ({ url, headers }: EndpointConfig, connections: number): MetricsEndpoint => {
  const base = new URL(url);
  const isHttps = base.protocol === "https:";
  const { username, password } = base;
  const basic = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64");
  base.username = "";
  base.password = "";
  const agent = new (isHttps ? HttpsAgent : HttpAgent)({ keepAlive: true, maxSockets: connections });

  const targetOf = ({ path, search }: EndpointRequest): URL => {
    const target = new URL(base);
    if (path !== undefined) target.pathname = base.pathname.replace(/\/+$/, "") + path;
    for (const [name, value] of search ?? []) target.searchParams.append(name, value);
    return target;
  };

  const send = (asked: EndpointRequest): Effect.Effect<EndpointAnswer, NoAnswer> =>
    Effect.async<EndpointAnswer, NoAnswer>((resume) => {
      const target = targetOf(asked);
      const fail = (error: Error): void => resume(Effect.fail(new NoAnswer({ message: error.message })));
      const start = (isAgain: boolean) => {
        const request = (isHttps ? httpsRequest : httpRequest)(
          target,
          {
            method: asked.method,
            agent,
            timeout: SILENCE_MS,
            headers: {
              "user-agent": "coroot",
              ...(asked.body === undefined ? {} : { "content-length": asked.body.length }),
              ...(username === "" ? {} : { authorization: `Basic ${basic}` }),
              ...asked.headers,
              ...headers,
            },
          },
          (response) => {
            const parts: Buffer[] = [];
            let bytes = 0;
            const end = (whole: boolean): void =>
              resume(
                Effect.succeed({
                  status: response.statusCode ?? 0,
                  headers: response.headers,
                  body: Buffer.concat(parts),
                  whole,
                }),
              );
            response.on("data", (part: Buffer) => {
              const room = asked.maxBytes - bytes;
              parts.push(part.subarray(0, room));
              bytes += part.length;
              if (bytes <= asked.maxBytes) return;
              end(false);
              request.destroy();
            });
            response.on("error", fail);
            response.on("end", () => end(true));
          },
        );
        request.on("timeout", () => request.destroy(new Error(`no answer within ${SILENCE_MS} ms`)));
        request.on("error", (error: Error & { readonly code?: string }) => {
          // the other side may close a kept connection at the moment when it is used again
          if (request.reusedSocket && error.code === "ECONNRESET" && !isAgain) current = start(true);
          else fail(error);
        });
        request.end(asked.body);
        return request;
      };
      let current = start(false);
      return Effect.sync(() => current.destroy(new Error("interrupted")));
    });

  return { shown: shownUrl(url), send, close: () => agent.destroy() };
};
