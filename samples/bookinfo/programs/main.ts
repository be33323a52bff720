import { readdirSync } from "node:fs";
import { extname } from "node:path";

/** Starts one service of the sample: the first argument or SERVICE names it. The same on one machine and in an image. */

/** What the services share, and this. */
const NO_SERVICE = ["main", "page", "serve"];

const extension = extname(import.meta.filename);
const services = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(extension))
  .map((file) => file.slice(0, -extension.length))
  .filter((name) => !NO_SERVICE.includes(name));
const wanted = process.argv[2] ?? process.env.SERVICE ?? "";

if (services.includes(wanted)) {
  await import(`./${wanted}${extension}`);
} else {
  console.error(
    `"${wanted}" is no service of this sample: give one of ${services.join(", ")} as argument or in SERVICE`,
  );
  process.exitCode = 2;
}
