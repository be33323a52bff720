import type { PutChange } from "@tulle/mesh";
import { aliasesOf, encodeResource } from "@tulle/mesh/wds";
import { nodeKey, type ResourceInput } from "@tulle/xds";

/** A resource of the mesh as discovery serves it, with its type. Encoded here, once for every client. */
export function resourceInput(change: PutChange): { readonly typeUrl: string; readonly resource: ResourceInput } {
  const { typeUrl, name, value: bytes } = encodeResource(change);
  switch (change.kind) {
    case "workload": {
      const { workload } = change;
      // Whoever asks for a service needs its endpoints, and a node its own workloads.
      const groups = [...workload.services.keys(), ...(workload.node === "" ? [] : [nodeKey(workload.node)])];
      return { typeUrl, resource: { name, bytes, aliases: aliasesOf(workload), groups } };
    }
    case "service":
      return { typeUrl, resource: { name, bytes, aliases: aliasesOf(change.service) } };
    case "policy":
      return { typeUrl, resource: { name, bytes } };
    default:
      return change satisfies never;
  }
}
