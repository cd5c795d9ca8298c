/** The import check really reads TypeScript: without a parser for it, it would pass whatever the code imports. */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { root } from "../../../deploy/bin/fresh.mjs";

const folder = join(root, "dist/import-check");
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the project's own rules over a little tree with the given files. */
const check = (
  files: Readonly<Record<string, string>>,
): { readonly status: number | null; readonly output: string } => {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder, path, ".."), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  const program = join(root, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs");
  const config = join(root, ".dependency-cruiser.cjs");
  writeFileSync(join(folder, "tsconfig.json"), "{}");
  const ran = spawnSync(process.execPath, [program, "--config", config, "--output-type", "err", "."], {
    cwd: folder,
    encoding: "utf8",
  });
  return { status: ran.status, output: ran.stdout + ran.stderr };
};

describe("import order", () => {
  it("lets a layer import what is below it", () => {
    const { status, output } = check({
      "schemas/a.ts": "export interface A { readonly a: 1 }\n",
      "runtime/b.ts": 'import type { A } from "../schemas/a.ts";\nexport const b: A = { a: 1 };\n',
    });
    expect(output).toContain("2 modules");
    expect(status).toBe(0);
  });

  it("refuses an import from above, also of a type", () => {
    const { status, output } = check({
      "actors/a.ts": "export interface A { readonly a: 1 }\n",
      "runtime/b.ts": 'import type { A } from "../actors/a.ts";\nexport const b: A = { a: 1 };\n',
    });
    expect(output).toContain("runtime-imports-schemas");
    expect(status).not.toBe(0);
  });

  it("refuses a circle", () => {
    const { output } = check({
      "actors/a.ts": 'import { b } from "./b.ts";\nexport const a = () => b;\n',
      "actors/b.ts": 'import { a } from "./a.ts";\nexport const b = () => a;\n',
    });
    expect(output).toContain("no-circular");
  });
});
