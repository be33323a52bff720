/**
 * A process of its own on a state folder. `write DIRECTORY PREFIX COUNT`: patches that many fields of ConfigMap default/shared.
 * `watch`: prints each state of its data. `crash`: takes the lock of default/shared and dies.
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { CONFIG_MAP, type ConfigMap } from "@tulle/store";
import { DirectoryStore } from "@tulle/store/directory";
import { LockFolder } from "../src/directory/object-lock.ts";

const [command = "", state = "", prefix = "", count = "0"] = process.argv.slice(2);
const ref = { namespace: "default", name: "shared" };
/** A test that forgets this process must not leave it behind. */
const LIFE_MS = 60_000;

if (command === "crash") {
  const locks = new LockFolder(join(state, "locks"), { random: Math.random });
  await locks.hold("ConfigMap.core~default~shared.json", () => process.kill(process.pid, "SIGKILL"));
}
const store = await DirectoryStore.open({ directory: undefined, state, component: `tulle-${prefix}` });
if (command === "write") {
  for (let index = 0; index < Number(count); index++) {
    await store.patch(CONFIG_MAP, ref, { type: "merge", body: { data: { [`${prefix}${index}`]: "1" } } });
  }
  await store[Symbol.asyncDispose]();
} else {
  const put = ({ data }: ConfigMap) => void writeSync(1, `${Date.now()} ${JSON.stringify(data)}\n`);
  store.watch(CONFIG_MAP, { put, gone() {}, synced: () => void writeSync(1, "synced\n") });
  setTimeout(() => process.exit(1), LIFE_MS);
}
