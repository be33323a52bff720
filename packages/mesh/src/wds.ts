import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, security, wds } from "@tulle/api";
import type { MeshChange, Policy, Service, Workload } from "./model.ts";
import { policyKey, serviceKey } from "./model.ts";
import { policyFromProto, serviceFromProto, workloadFromProto } from "./wds/from-proto.ts";
import type { PutChange } from "./resource-log.ts";
import { type Decoded, decoded, rejected } from "./wds/reader.ts";
import { policyToProto, serviceToProto, workloadToProto } from "./wds/to-proto.ts";

export { policyFromProto, serviceFromProto, unreadableSans, workloadFromProto } from "./wds/from-proto.ts";
export type { Decoded } from "./wds/reader.ts";
export { policyToProto, serviceToProto, workloadToProto } from "./wds/to-proto.ts";

/** One resource as it goes over xDS. */
export interface WireResource {
  readonly typeUrl: typeof ADDRESS_TYPE | typeof AUTHORIZATION_TYPE;
  readonly name: string;
  /** The payload of the Any. */
  readonly value: Uint8Array<ArrayBuffer>;
}

/** The payload of an istio.workload.Address; a reason for the NACK if it cannot be taken in (§5.3). */
export function decodeAddress(bytes: Uint8Array): Decoded<PutChange> {
  return decoded(() => {
    const { type } = fromBinary(wds.AddressSchema, bytes);
    switch (type.case) {
      case "workload":
        return { kind: "workload", workload: workloadFromProto(type.value) };
      case "service":
        return { kind: "service", service: serviceFromProto(type.value) };
      default:
        throw rejected("unknown address type");
    }
  });
}

/** The payload of an istio.security.Authorization; a reason for the NACK if it cannot be taken in. */
export function decodeAuthorization(bytes: Uint8Array): Decoded<PutChange> {
  return decoded(() => ({ kind: "policy", policy: policyFromProto(fromBinary(security.AuthorizationSchema, bytes)) }));
}

/**
 * What the removal of an Address resource means (§5.2): a workload with that uid if there is one, else the service
 * `<namespace>/<hostname>`; undefined when the name can be neither.
 */
export function removedAddress(name: string, isWorkload: (uid: string) => boolean): MeshChange | undefined {
  if (isWorkload(name)) return { kind: "remove-workload", uid: name };
  const slash = name.indexOf("/");
  if (slash < 0 || name.includes("/", slash + 1)) return undefined;
  return { kind: "remove-service", key: name };
}

/** Equal resources give equal bytes. */
export function encodeResource(change: PutChange): WireResource {
  switch (change.kind) {
    case "workload": {
      const value = { case: "workload" as const, value: workloadToProto(change.workload) };
      return { typeUrl: ADDRESS_TYPE, name: change.workload.uid, value: addressBytes(value) };
    }
    case "service": {
      const value = { case: "service" as const, value: serviceToProto(change.service) };
      return { typeUrl: ADDRESS_TYPE, name: serviceKey(change.service), value: addressBytes(value) };
    }
    case "policy": {
      const value = toBinary(security.AuthorizationSchema, policyToProto(change.policy));
      return { typeUrl: AUTHORIZATION_TYPE, name: policyKey(change.policy), value };
    }
    default:
      return change satisfies never;
  }
}

/** The other names under which a client may ask for a resource (on-demand, §5.2). */
export function aliasesOf(resource: Workload | Service | Policy): readonly string[] {
  if ("addresses" in resource) return resource.addresses.map((ip) => `${resource.network}/${ip}`);
  if (!("vips" in resource)) return [];
  return [
    ...resource.vips.map(({ network, ip }) => `${network}/${ip}`),
    ...resource.cidrVips.map(({ network, cidr }) => `${network}/${cidr.ip}/${cidr.bits}`),
  ];
}

function addressBytes(type: wds.Address["type"]): Uint8Array<ArrayBuffer> {
  return toBinary(wds.AddressSchema, create(wds.AddressSchema, { type }));
}
