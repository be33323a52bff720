import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Stands for a file that holds the input: OpenSSL does not read keys from a pipe. */
export const KEY_FILE = "@input";

/** Runs the openssl command, an implementation that is not ours; throws when it fails. */
export function openssl(args: readonly string[], input = ""): string {
  const directory = mkdtempSync(join(tmpdir(), "tulle-openssl-"));
  const file = join(directory, "input");
  try {
    writeFileSync(file, input, { mode: 0o600 });
    const real = args.map((arg) => (arg === KEY_FILE ? file : arg));
    // A command that does not read its input could end before it was written.
    const stdin = args.includes(KEY_FILE) ? "" : input;
    return execFileSync("openssl", real, {
      input: stdin,
      encoding: "utf8",
      stdio: ["pipe", "pipe", "pipe"],
      timeout: 10_000,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}
