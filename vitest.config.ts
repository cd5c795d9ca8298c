/**
 * Two projects: "unit" (pure parts, and actors under a test clock) and "machine" (what uses the kernel, real programs,
 * sockets, a browser). `npm test` runs the first with its files in parallel and then the second with one file at a time,
 * since a machine may have two cores and these measure time. Coverage is taken over the parts that the unit specs own.
 */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const onTheMachine = [
  ...["kernel", "e2e", "browser", "cluster", "chaos", "store", "deploy"].map(
    (folder) => `spec/${folder}/**/*.test.{ts,tsx}`,
  ),
  "spec/**/*.machine.test.ts",
];

export default defineConfig({
  plugins: [react()],
  test: {
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["spec/**/*.test.{ts,tsx}"],
          exclude: onTheMachine,
          testTimeout: 10_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "machine",
          include: onTheMachine,
          testTimeout: 60_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
    coverage: {
      provider: "v8",
      reporter: ["text-summary", "html"],
      reportsDirectory: "coverage",
      include: ["schemas/**/*.ts", "runtime/**/*.ts", "actors/**/*.ts", "agent/**/*.ts"],
    },
  },
});
