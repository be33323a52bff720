import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, security, wds, WORKLOAD_TYPE } from "@tulle/api";
import { ipFromBytes } from "@tulle/base";
import { nodeMetadata } from "../node.ts";
import type { ResourceInput } from "./resource-cache.ts";
import type { XdsType } from "./stream.ts";

/** Workloads and services; an on-demand proxy gets the workloads of its own node unasked. */
export const ADDRESSES: XdsType = {
  typeUrl: ADDRESS_TYPE,
  impliedKeys: ({ node }) => {
    const name = nodeMetadata(node, "NODE_NAME");
    return name === "" ? [] : [nodeKey(name)];
  },
  isInternal: isNodeKey,
};

/** Workloads alone: for clients older than Address. */
export const WORKLOADS: XdsType = {
  typeUrl: WORKLOAD_TYPE,
  ...(ADDRESSES.impliedKeys && { impliedKeys: ADDRESSES.impliedKeys }),
  isInternal: isNodeKey,
  view: {
    of: ADDRESS_TYPE,
    // `<namespace>/<hostname>` is a service; the uid of a workload has more parts.
    owns: (name) => name.indexOf("/") !== name.lastIndexOf("/"),
    convert: (bytes) => {
      const { type } = fromBinary(wds.AddressSchema, bytes);
      return type.case === "workload" ? toBinary(wds.WorkloadSchema, type.value) : new Uint8Array();
    },
  },
};

/** Policies: always all of them, since one that is missing would leave a door open. */
export const AUTHORIZATIONS: XdsType = { typeUrl: AUTHORIZATION_TYPE, alwaysWildcard: true };

/** An Address with its names (spec: l4-ztunnel §5.2). Throws Error when it is neither workload nor service. */
export function addressResource(address: wds.Address): ResourceInput {
  const bytes = toBinary(wds.AddressSchema, address);
  switch (address.type.case) {
    case "workload": {
      const { uid, network, addresses, services, node } = address.type.value;
      return {
        name: uid,
        bytes,
        aliases: addresses.flatMap((one) => aliasOf(network, one)),
        // Whoever asks for a service needs its endpoints.
        groups: [...Object.keys(services), ...(node === "" ? [] : [nodeKey(node)])],
      };
    }
    case "service": {
      const { namespace, hostname, addresses } = address.type.value;
      const aliases = addresses.flatMap((one) => aliasOf(one.network, one.address, one.length));
      return { name: `${namespace}/${hostname}`, bytes, aliases };
    }
    default:
      throw new Error("an Address is a workload or a service");
  }
}

export function authorizationResource(policy: security.Authorization): ResourceInput {
  return { name: `${policy.namespace}/${policy.name}`, bytes: toBinary(security.AuthorizationSchema, policy) };
}

/** `<network>/<ip>`, or `<network>/<ip>/<length>` for a range. */
function aliasOf(network: string, address: Uint8Array, length?: number): string[] {
  const ip = ipFromBytes(address);
  if (ip === undefined) return [];
  const whole = length === undefined || length === address.length * 8;
  return [whole ? `${network}/${ip}` : `${network}/${ip}/${length}`];
}

/** The group of a node's workloads. Not a name that a resource can have: those hold a slash. */
export function nodeKey(node: string): string {
  return `${NODE_PREFIX}${node}`;
}

function isNodeKey(key: string): boolean {
  return key.startsWith(NODE_PREFIX) && !key.includes("/");
}

const NODE_PREFIX = "node:";
