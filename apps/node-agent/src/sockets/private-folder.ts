import { chmodSync, lstatSync, mkdirSync } from "node:fs";
import { MeshError } from "@tulle/base";

/** Only root may enter: whoever reaches a socket in it is given, or believed, the namespaces of pods. */
const MODE = 0o700;

/** Makes a folder that only its owner, root, can enter. Throws MeshError UNSAFE_FOLDER when it is something else already. */
export function makePrivateFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: MODE });
  const { uid } = lstatSync(path);
  // Who owns it could open it again.
  if (!lstatSync(path).isDirectory() || uid !== 0) {
    throw new MeshError(`${path} must be a folder that belongs to root, or not exist: sockets go there`, {
      code: "UNSAFE_FOLDER",
      side: "internal",
    });
  }
  chmodSync(path, MODE);
}
