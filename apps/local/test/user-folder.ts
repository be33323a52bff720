import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { silentLog } from "@tulle/base";
import { formatProblem } from "@tulle/store/directory";
import { type Look, UserDirectory } from "../src/user-directory.ts";

/** A directory of YAML and a state folder that a test may change; both go away with it. */
export class UserFolder implements AsyncDisposable {
  readonly #root = mkdtempSync(join(tmpdir(), "tulle-local-"));
  readonly path = join(this.#root, "yaml");
  readonly state = join(this.#root, "state");
  readonly looks: Look[] = [];
  #user: UserDirectory | undefined;

  static async open(files: Readonly<Record<string, string>>): Promise<UserFolder> {
    const folder = new UserFolder();
    mkdirSync(folder.path);
    for (const [name, text] of Object.entries(files)) folder.write(name, text);
    await folder.reopen();
    return folder;
  }

  /** As another start of the mesh does. */
  async reopen(): Promise<void> {
    await this.#user?.[Symbol.asyncDispose]();
    const { path: directory, state } = this;
    this.#user = await UserDirectory.open({
      directory,
      state,
      log: silentLog,
      onLook: (look) => this.looks.push(look),
    });
  }

  get user(): UserDirectory {
    if (this.#user === undefined) throw new Error("it is not open");
    return this.#user;
  }

  /** What a user is told now. */
  get problems(): string[] {
    return this.user.problems.map(formatProblem);
  }

  write(name: string, text: string): void {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  }

  remove(name: string): void {
    rmSync(join(this.path, name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#user?.[Symbol.asyncDispose]();
    rmSync(this.#root, { recursive: true });
  }
}
