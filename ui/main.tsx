/**
 * Entry of the live page: one connection for the tab, the theme, the router. A tab that is hidden tells the connection,
 * and coming back online tries at once instead of waiting for the next attempt.
 */
import { createTheme, MantineProvider } from "@mantine/core";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { makeLive } from "./live.ts";
import { LiveContext } from "./live/hooks.ts";
import { connectTo } from "./live/web-socket.ts";
import { router } from "./router.tsx";
import "./style/index.css";

const address = new URL("/live", window.location.href);
address.protocol = address.protocol === "https:" ? "wss:" : "ws:";

const live = makeLive({
  connect: connectTo(address),
  now: () => Date.now(),
  nextFrame: (run) => requestAnimationFrame(run),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
});
document.addEventListener("visibilitychange", () => live.setVisible(document.visibilityState === "visible"));
window.addEventListener("online", live.reconnect);

const theme = createTheme({
  fontFamily: 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  primaryColor: "indigo",
  defaultRadius: "sm",
  cursorType: "pointer",
  respectReducedMotion: true,
});

const host = document.getElementById("root");
if (host === null) throw new Error("index.html has no element #root");
createRoot(host).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto">
      <LiveContext.Provider value={live}>
        <RouterProvider router={router} />
      </LiveContext.Provider>
    </MantineProvider>
  </StrictMode>,
);
