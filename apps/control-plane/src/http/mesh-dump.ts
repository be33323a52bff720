import { fromBinary } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, ads, AUTHORIZATION_TYPE } from "@tulle/api";
import { dumpState, MeshState, type StateDump } from "@tulle/mesh";
import { decodeAddress, decodeAuthorization } from "@tulle/mesh/wds";
import type { ResourceCache } from "@tulle/xds";

/** What is served now, in the form of a ztunnel's own dump: decoded from the very bytes that proxies are sent. */
export function dumpServed(cache: (typeUrl: string) => ResourceCache): StateDump {
  const state = new MeshState();
  for (const [typeUrl, decode] of [
    [AUTHORIZATION_TYPE, decodeAuthorization],
    [ADDRESS_TYPE, decodeAddress],
  ] as const) {
    for (const { encoded } of cache(typeUrl).all()) {
      const decoded = decode(fromBinary(ads.ResourceSchema, encoded).resource?.value ?? new Uint8Array());
      if (decoded.ok) state.apply(decoded.value);
    }
  }
  return dumpState(state);
}
