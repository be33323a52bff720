import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { zds } from "@tulle/api";

/** The messages between node agent and proxy (spec: l4-ztunnel §7.1, §7.2): one protobuf message per packet. */

/** Both sides read into this many bytes; a longer packet is cut and refused. */
export const MAX_PACKET = 1024;

export interface PodInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** What the agent says to the proxy. `uid`: the Kubernetes pod UID. */
export type ZdsRequest =
  /** Carries one descriptor: the pod's network namespace. */
  | { readonly kind: "add"; readonly uid: string; readonly info: PodInfo | undefined }
  | { readonly kind: "keep"; readonly uid: string }
  | { readonly kind: "del"; readonly uid: string }
  | { readonly kind: "snapshot-sent" };

/** Undefined error: accepted. */
export interface ZdsAck {
  readonly error: string | undefined;
}

export function encodeHello(): Uint8Array {
  return toBinary(zds.ZdsHelloSchema, create(zds.ZdsHelloSchema, { version: zds.Version.V1 }));
}

/** Whether it is the greeting of a version that we speak. */
export function isHello(bytes: Uint8Array): boolean {
  try {
    return fromBinary(zds.ZdsHelloSchema, bytes).version === zds.Version.V1;
  } catch {
    // Not a protobuf message at all.
    return false;
  }
}

export function encodeRequest(request: ZdsRequest): Uint8Array {
  return toBinary(zds.WorkloadRequestSchema, create(zds.WorkloadRequestSchema, { payload: payloadOf(request) }));
}

/** Undefined: not a request that we know. */
export function decodeRequest(bytes: Uint8Array): ZdsRequest | undefined {
  let payload: zds.WorkloadRequest["payload"];
  try {
    ({ payload } = fromBinary(zds.WorkloadRequestSchema, bytes));
  } catch {
    // Not a protobuf message at all.
    return undefined;
  }
  switch (payload.case) {
    case "add": {
      const { uid, workloadInfo: info } = payload.value;
      return {
        kind: "add",
        uid,
        info: info && { name: info.name, namespace: info.namespace, serviceAccount: info.serviceAccount },
      };
    }
    case "keep":
      return { kind: "keep", uid: payload.value.uid };
    case "del":
      return { kind: "del", uid: payload.value.uid };
    case "snapshotSent":
      return { kind: "snapshot-sent" };
    default:
      return undefined;
  }
}

export function encodeAck(ack: ZdsAck): Uint8Array {
  const message = create(zds.WorkloadResponseSchema, {
    payload: { case: "ack", value: { error: (ack.error ?? "").slice(0, MAX_ERROR) } },
  });
  return toBinary(zds.WorkloadResponseSchema, message);
}

export function decodeAck(bytes: Uint8Array): ZdsAck | undefined {
  try {
    const { payload } = fromBinary(zds.WorkloadResponseSchema, bytes);
    if (payload.case !== "ack") return undefined;
    return { error: payload.value.error === "" ? undefined : payload.value.error };
  } catch {
    // Not a protobuf message at all.
    return undefined;
  }
}

/** So that the answer fits the receiver's buffer, in characters of at most 3 bytes. */
const MAX_ERROR = 300;

function payloadOf(request: ZdsRequest) {
  switch (request.kind) {
    case "add":
      return {
        case: "add" as const,
        value: create(zds.AddWorkloadSchema, {
          uid: request.uid,
          ...(request.info === undefined ? {} : { workloadInfo: create(zds.WorkloadInfoSchema, request.info) }),
        }),
      };
    case "keep":
      return { case: "keep" as const, value: create(zds.KeepWorkloadSchema, { uid: request.uid }) };
    case "del":
      return { case: "del" as const, value: create(zds.DelWorkloadSchema, { uid: request.uid }) };
    case "snapshot-sent":
      return { case: "snapshotSent" as const, value: create(zds.SnapshotSentSchema) };
    default:
      return request satisfies never;
  }
}
