/**
 * Build of the live page: `npx vite build --config ui/vite.config.ts` writes dist/ui, which the server serves as files.
 * Every path that is neither a file nor the server's own (/api, /live, /v1, /health, /metrics) must answer index.html,
 * since the page routes by itself. `vite` alone serves it for development and passes /live and /api on to COROOT_SERVER.
 */
import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const server = process.env["COROOT_SERVER"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "/",
  plugins: [react()],
  build: {
    outDir: fileURLToPath(new URL("../dist/ui", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    // fonts and pictures never inline as data: URLs, so that a strict content policy can hold
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 600,
  },
  server: { proxy: { "/api": server, "/live": { target: server, ws: true } } },
});
