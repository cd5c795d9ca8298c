/** A demo to be killed by a test: starts a shop, says so on standard output with its processes, and waits. */
import { Cleanup } from "../../../deploy/demo/cleanup.ts";
import { environmentInTurn } from "../../../deploy/demo/environment.ts";
import { plainPlan } from "../../../deploy/demo/plan.ts";
import { startShop } from "../../../deploy/demo/shop.ts";

const cleanup = new Cleanup();
const environment = await environmentInTurn(plainPlan(), cleanup, { tell: () => {} });
const shop = await startShop({ environment, cleanup, tell: () => {} });
const pids = [...shop.services.values()].map((service) => service.pid);
process.stdout.write(`${JSON.stringify({ folder: environment.folder, off: environment.off, pids, url: shop.url })}\n`);
shop.users.onSecond = (second) => process.stdout.write(`${JSON.stringify(second)}\n`);
process.once("SIGTERM", () => {
  void cleanup.run().then((problems) => process.exit(problems.length === 0 ? 0 : 1));
});
