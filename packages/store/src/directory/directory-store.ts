import { type Store, StoreError } from "../contract.ts";

/** Resources of a directory of YAML. */
export const DirectoryStore = {
  open(_options: {
    readonly directory: string | undefined;
    readonly state: string;
    readonly component: string;
  }): Promise<Store> {
    return Promise.reject(new StoreError("UNAVAILABLE", "the directory store is not there yet"));
  },
};
