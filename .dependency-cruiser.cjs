// Imports run one way: schemas <- runtime <- {actors, agent} <- deploy; ui -> schemas; and never in a circle.
// TypeScript is read with @swc/core: the TypeScript package no longer offers an API from version 7 on. That UI takes only
// types from most of schemas/ is checked by the linter (.oxlintrc.json), which tells types from values.
const only = (name, from, allowed) => ({
  name,
  severity: "error",
  from: { path: `^${from}/` },
  to: {
    path: "^(schemas|runtime|actors|agent|ui|deploy|spec)/",
    pathNot: `^(${[from, ...allowed].join("|")})/`,
  },
});
module.exports = {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
    { name: "not-to-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    only("schemas-import-nothing-of-ours", "schemas", []),
    only("runtime-imports-schemas", "runtime", ["schemas"]),
    only("actors-import-runtime", "actors", ["runtime", "schemas"]),
    only("agent-imports-runtime", "agent", ["runtime", "schemas"]),
    only("deploy-is-the-top", "deploy", ["actors", "agent", "runtime", "schemas"]),
    only("ui-imports-schemas", "ui", ["schemas"]),
    {
      name: "wire-and-units-are-free-of-effect",
      severity: "error",
      from: { path: "^schemas/(wire/|units)" },
      to: { path: "node_modules/(effect|@effect)" },
    },
    {
      name: "the-truth-of-the-demo-stays-in-the-demo",
      severity: "error",
      from: { pathNot: "^(deploy|spec)/" },
      to: { path: "^deploy/demo/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      extensions: [".ts", ".tsx", ".mjs", ".js", ".json"],
      conditionNames: ["import", "types", "default"],
    },
  },
};
