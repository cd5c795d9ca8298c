/**
 * Who may ask: pure checks of the headers that a browser cannot forge. Until access control is built, the server trusts
 * the machine it runs on, so a web page elsewhere must not reach it through the reader's browser: its name must not be
 * made to point here (Host), nor may its scripts open sockets or change anything (Origin).
 */
const NAMES: readonly string[] = ["127.0.0.1", "localhost", "[::1]"];

export interface Refused {
  readonly status: 403 | 421;
  readonly message: string;
}

const nameAndPort = (host: string): readonly [name: string, port: number] | null => {
  const match = /^(\[[0-9a-f:]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(host.toLowerCase());
  return match === null ? null : [match[1] ?? "", match[2] === undefined ? 80 : Number(match[2])];
};

export const checkHost = (host: string | undefined, port: number): Refused | null => {
  const parsed = host === undefined ? null : nameAndPort(host);
  if (parsed !== null && NAMES.includes(parsed[0]) && parsed[1] === port) return null;
  return {
    status: 421,
    message: `Host: ${host === undefined ? "none" : JSON.stringify(host.slice(0, 100))}, expected ${NAMES.map((name) => `${name}:${port}`).join(", ")}`,
  };
};

const SAFE: readonly string[] = ["GET", "HEAD", "OPTIONS"];

/** Sockets and whatever changes something: from our own page, or from a program, which sends no Origin. */
export const checkOrigin = (request: {
  readonly method: string | undefined;
  readonly upgrade: boolean;
  readonly origin: string | undefined;
  readonly host: string | undefined;
}): Refused | null => {
  if (request.origin === undefined) return null;
  if (!request.upgrade && SAFE.includes(request.method ?? "")) return null;
  if (request.origin.toLowerCase() === `http://${(request.host ?? "").toLowerCase()}`) return null;
  return { status: 403, message: `Origin: ${JSON.stringify(request.origin.slice(0, 100))} may not use this server` };
};

/**
 * Calls at the doors: a program that has the key may come by any name of this server (a proxy, a service in a cluster); a
 * browser tells by headers that no script can leave out, and then only our own page may.
 */
export const checkDoor = (
  headers: {
    readonly host?: string | undefined;
    readonly origin?: string | undefined;
    readonly "sec-fetch-site"?: string | string[] | undefined;
  },
  port: number,
): Refused | null => {
  const { host, origin } = headers;
  if (origin === undefined && headers["sec-fetch-site"] === undefined) return null;
  return checkHost(host, port) ?? checkOrigin({ method: "POST", upgrade: false, origin, host });
};

/** Scripts, fonts and connections from here only; inline styles stay, since the components of the page set them. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};
