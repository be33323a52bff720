import { readdirSync } from "node:fs";
import { join } from "node:path";

/** Starts one service of the Bookinfo sample in its image: the first argument or SERVICE names it. */
const PROGRAMS = join(import.meta.dirname, "../../samples/bookinfo/programs");
/** What the services share. */
const NO_SERVICE = ["page", "serve"];

const services = readdirSync(PROGRAMS)
  .filter((file) => file.endsWith(".js"))
  .map((file) => file.slice(0, -".js".length))
  .filter((name) => !NO_SERVICE.includes(name));
const wanted = process.argv[2] ?? process.env.SERVICE ?? "";

if (services.includes(wanted)) {
  await import(join(PROGRAMS, `${wanted}.js`));
} else {
  console.error(
    `"${wanted}" is no service of this image: give one of ${services.join(", ")} as argument or in SERVICE`,
  );
  process.exitCode = 2;
}
