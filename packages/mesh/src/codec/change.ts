import type { MeshChange } from "../model.ts";
import { readPolicy, writePolicy } from "./policy.ts";
import { readService, writeService } from "./service.ts";
import { SharedStrings, WireReader, WireWriter } from "./wire.ts";
import { placeOf, readWorkload, writeWorkload } from "./workload.ts";

const KINDS: readonly MeshChange["kind"][] = [
  "workload",
  "service",
  "policy",
  "remove-workload",
  "remove-service",
  "remove-policy",
  "synced",
];

/**
 * Changes as flat bytes, for other threads of the same process: no library, no version, no gaps. One codec per thread;
 * it keeps its scratch buffer and the strings that decoded resources share.
 */
export class ChangeCodec {
  readonly #writer = new WireWriter();
  readonly #strings = new SharedStrings();

  /** A buffer of its own (it may be transferred). Throws MALFORMED_CHANGE or CHANGE_TOO_LARGE. */
  encode(change: MeshChange): Uint8Array<ArrayBuffer> {
    const out = this.#writer;
    out.reset();
    out.byte(placeOf(KINDS, change.kind));
    switch (change.kind) {
      case "workload":
        writeWorkload(out, change.workload);
        break;
      case "service":
        writeService(out, change.service);
        break;
      case "policy":
        writePolicy(out, change.policy);
        break;
      case "remove-workload":
        out.text(change.uid);
        break;
      case "remove-service":
      case "remove-policy":
        out.text(change.key);
        break;
      case "synced":
        break;
      default:
        change satisfies never;
    }
    return out.take();
  }

  /** Exactly one change; anything else throws MALFORMED_CHANGE. Keeps no reference to `bytes`. */
  decode(bytes: Uint8Array): MeshChange {
    const from = new WireReader(bytes, this.#strings);
    const change = this.#read(from);
    from.end();
    return change;
  }

  #read(from: WireReader): MeshChange {
    const kind = from.choice(KINDS);
    switch (kind) {
      case "workload":
        return { kind, workload: readWorkload(from) };
      case "service":
        return { kind, service: readService(from) };
      case "policy":
        return { kind, policy: readPolicy(from) };
      case "remove-workload":
        return { kind, uid: from.text() };
      case "remove-service":
      case "remove-policy":
        return { kind, key: from.text() };
      case "synced":
        return { kind };
      default:
        return kind satisfies never;
    }
  }
}

/** `ChangeCodec.encode` for the occasional change. */
export function encodeChange(change: MeshChange): Uint8Array<ArrayBuffer> {
  return new ChangeCodec().encode(change);
}

/** `ChangeCodec.decode` for the occasional change. */
export function decodeChange(bytes: Uint8Array): MeshChange {
  return new ChangeCodec().decode(bytes);
}
