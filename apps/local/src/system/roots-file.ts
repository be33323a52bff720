import { type Log, ROOT_CERT_CONFIG_MAP, ROOT_CERT_KEY, SYSTEM_NAMESPACE } from "@tulle/base";
import { CONFIG_MAP, type ConfigMap, type Store, type Watch } from "@tulle/store";
import { replaceFile } from "./tokens.ts";

/** The mesh's roots as a file, as the kubelet projects the ConfigMap into the proxies' pods. */
export class RootsFile implements Disposable {
  readonly path: string;
  readonly #watch: Watch<ConfigMap>;

  constructor(options: { readonly store: Pick<Store, "watch">; readonly path: string; readonly log: Log }) {
    this.path = options.path;
    let written = "";
    const put = ({ data }: ConfigMap) => {
      const text = data?.[ROOT_CERT_KEY] ?? "";
      if (text === "" || text === written) return;
      replaceFile(this.path, text, 0o644);
      written = text;
    };
    this.#watch = options.store.watch(
      CONFIG_MAP,
      { put, gone: () => options.log.warn(`the ConfigMap ${ROOT_CERT_CONFIG_MAP} is gone`) },
      { namespace: SYSTEM_NAMESPACE, fields: { "metadata.name": ROOT_CERT_CONFIG_MAP } },
    );
  }

  [Symbol.dispose](): void {
    this.#watch.close();
  }
}
