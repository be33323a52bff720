import { request } from "node:http";
import { isIpv6 } from "@tulle/base";
import type { AddressPair } from "../objects/addresses.ts";

/** What the CNI plugin does on a cluster: a pod's first process starts only when its node's agent has said yes. */

export interface NewSandbox {
  readonly name: string;
  readonly namespace: string;
  /** File of the pod's network namespace. */
  readonly netns: string;
  readonly address: AddressPair;
  readonly gateway: AddressPair;
  readonly prefixLength: { readonly v4: number; readonly v6: number };
}

/** A little longer than the agent takes to give up by itself. */
const TIMEOUT_MS = 5000;
/** Of an answer: a sentence. */
const MAX_ANSWER_BYTES = 16 * 1024;
const INTERFACE = "eth0";

/** Asks the agent at `socket`. Rejects with its reason when the pod must not start; may be called again. */
export function addPod(socket: string, sandbox: NewSandbox, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = request({
      socketPath: socket,
      method: "POST",
      path: "/cmdadd",
      headers: { "content-type": "application/json" },
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    call.on("error", (error) =>
      reject(error.name === "AbortError" ? new Error("the node agent has not answered in time") : error),
    );
    call.on("response", (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        if (text.length < MAX_ANSWER_BYTES) text += chunk;
      });
      answer.on("error", reject);
      answer.on("end", () => {
        if (answer.statusCode === 200) resolve();
        else reject(new Error(text.trim() || `the node agent answered ${answer.statusCode}`));
      });
    });
    call.end(JSON.stringify(addRequest(sandbox)));
  });
}

/** The body, as upstream's plugin writes it (spec: control-plane §7.3). */
export function addRequest({ name, namespace, netns, address, gateway, prefixLength }: NewSandbox): object {
  const entry = (ip: string, via: string | undefined, bits: number) => ({
    Interface: INTERFACE,
    Address: { IP: ip, Mask: maskOf(bits, isIpv6(ip) ? 16 : 4) },
    ...(via === undefined ? {} : { Gateway: via }),
  });
  return {
    Netns: netns,
    PodName: name,
    PodNamespace: namespace,
    IPs: [
      entry(address.v4, gateway.v4, prefixLength.v4),
      ...(address.v6 === undefined ? [] : [entry(address.v6, gateway.v6, prefixLength.v6)]),
    ],
  };
}

/** Base64, as Go writes bytes. */
function maskOf(bits: number, bytes: number): string {
  const mask = Uint8Array.from({ length: bytes }, (_, index) => {
    const set = Math.min(8, Math.max(0, bits - index * 8));
    return 0xff & ~(0xff >> set);
  });
  return Buffer.from(mask).toString("base64");
}
