// Imports run one way: schemas <- runtime <- {actors, agent} <- deploy; ui -> schemas; and never in a circle.
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
      name: "ui-takes-values-only-from-wire-and-units",
      severity: "error",
      from: { path: "^ui/" },
      to: { path: "^schemas/", pathNot: "^schemas/(wire/|units)", dependencyTypesNot: ["type-only"] },
    },
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
    enhancedResolveOptions: { extensions: [".ts", ".tsx", ".mjs", ".js", ".json"], conditionNames: ["import", "types", "default"] },
  },
};
