/** Where the built parts lie: beside the bundle, whether this code runs from it or from a chunk of it, or in dist/. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const distDir = (): string => {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const dir of [here, dirname(here), join(here, "../../dist")]) if (existsSync(join(dir, "ui"))) return dir;
  return here;
};
