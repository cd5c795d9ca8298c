/**
 * The built page from its directory. Files with a hash in their name never change and are kept by the browser; the
 * rest is asked for again. A path that is no file is a place within the page and gets index.html. Reads only below the
 * directory. Owned by the HTTP server; holds nothing between requests.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { pipeline } from "node:stream/promises";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".json": "application/json",
  ".map": "application/json",
  ".woff2": "font/woff2",
  ".txt": "text/plain; charset=utf-8",
  ".webmanifest": "application/manifest+json",
};

const fileSize = async (path: string): Promise<number | null> => {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : null;
  } catch {
    return null; // no such file: the caller falls back
  }
};

export const sendText = (response: ServerResponse, status: number, text: string): void => {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" });
  response.end(`${text}\n`);
};

const decoded = (pathname: string): string | null => {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return null; // "%" without digits
  }
};

/** Whether a name carries the hash that the build gives it. */
const isHashed = (path: string): boolean => /[/\\]assets[/\\].*-[\w-]{8,}\.\w+$/.test(path);

export const servePage = async (
  directory: string,
  pathname: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    return sendText(response, 405, `${request.method ?? "?"} is not possible here`);
  }
  const root = resolve(directory);
  const wanted = decoded(pathname);
  if (wanted === null || wanted.includes("\0")) return sendText(response, 400, "The path cannot be read");
  let path = normalize(join(root, wanted));
  if (path !== root && !path.startsWith(root + sep)) return sendText(response, 404, "There is no such file");
  let size = await fileSize(path);
  if (size === null) {
    if (extname(wanted) !== "" && wanted.startsWith("/assets/"))
      return sendText(response, 404, "There is no such file");
    path = join(root, "index.html");
    size = await fileSize(path);
    if (size === null)
      return sendText(response, 503, `The page is not built: there is no ${path}. Build it with: npm run build`);
  }
  response.writeHead(200, {
    "content-type": TYPES[extname(path).toLowerCase()] ?? "application/octet-stream",
    "content-length": size,
    "cache-control": isHashed(path) ? "public, max-age=31536000, immutable" : "no-cache",
  });
  if (request.method === "HEAD") {
    response.end();
    return;
  }
  await pipeline(createReadStream(path), response);
};
