import { isDeepStrictEqual } from "node:util";
import type { Log } from "@tulle/base";
import { DirectoryStore, type ImportResult, type Problem } from "@tulle/store/directory";
import { checkDocument } from "./resources/document-check.ts";
import { type Images, UserImages } from "./resources/images.ts";
import { checkTogether } from "./resources/together-check.ts";

/** What the directory says, after a look at it. */
export interface Look extends Pick<ImportResult, "changes" | "declared"> {
  readonly problems: readonly Problem[];
  /** An image stands for another command. */
  readonly imagesChanged: boolean;
}

/** The store of the mesh, of which this process is the only one that takes over what the user's directory says. */
export class UserDirectory implements AsyncDisposable {
  readonly store: DirectoryStore;
  readonly #images: UserImages;

  private constructor(store: DirectoryStore, images: UserImages) {
    this.store = store;
    this.#images = images;
  }

  /** `onLook` is called after each look, the first one included. Rejects with StoreError. */
  static async open(options: {
    readonly directory: string;
    readonly state: string;
    readonly log: Log;
    readonly onLook: (look: Look) => void;
  }): Promise<UserDirectory> {
    const { directory, state, log, onLook } = options;
    const images = new UserImages(directory);
    let known = images.read();
    const store = await DirectoryStore.open({
      ...{ directory, state, log, component: "tulle-local" },
      checks: { document: checkDocument, together: (declared) => checkTogether(declared, images.read()) },
      // Told by `onLook`, with those of the images.
      onProblems: () => {},
      onImported: ({ changes, declared, problems }) => {
        const imagesChanged = !isDeepStrictEqual(known, images.current);
        known = images.current;
        onLook({ changes, declared, problems: [...problems, ...images.problems], imagesChanged });
      },
    });
    return new UserDirectory(store, images);
  }

  get images(): Images {
    return this.#images.current;
  }

  get problems(): readonly Problem[] {
    return [...this.store.problems, ...this.#images.problems];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
  }
}
