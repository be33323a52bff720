import type { IncomingMessage } from "node:http";
import { isLocalHost, isLoopback } from "@tulle/base";
import { type Authenticator, authenticateCall } from "../auth/authenticator.ts";

export interface DebugGuardOptions {
  readonly authenticator: Authenticator;
  readonly clusterId: string;
  /** Whose callers may see everything: our own, and those of the configuration. */
  readonly namespaces: ReadonlySet<string>;
}

/** What a caller may see: everything, or proxies of its own namespace only. */
export type DebugAccess =
  | { readonly kind: "everything" }
  | { readonly kind: "namespace"; readonly namespace: string }
  | { readonly kind: "refused"; readonly status: 401 | 403; readonly text: string };

/**
 * Who may look into the control plane (control-plane.md §9.2): whoever is on its own loopback, as with a port-forward;
 * anybody else by a token. Web pages in a browser at the other end of a port-forward are not meant: they carry an Origin,
 * or the name of their own under which they have the browser look for us (DNS rebinding).
 */
export async function debugAccess(request: IncomingMessage, options: DebugGuardOptions): Promise<DebugAccess> {
  const { headers, socket } = request;
  // A browser sends it on behalf of a page; no tool does.
  if (headers.origin !== undefined) return { kind: "refused", status: 403, text: "web pages are not answered" };
  const token = /^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1];
  const address = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  if (address !== "" && isLoopback(address) && isLocalHost(headers.host ?? "")) return { kind: "everything" };
  if (token === undefined) {
    return {
      kind: "refused",
      status: 401,
      text: "a bearer token is needed, or a port-forward to this pod and a Host that is localhost or an IP address",
    };
  }
  const clusterId = headers["clusterid"];
  const result = await authenticateCall(
    { token, clusterId: typeof clusterId === "string" ? clusterId : undefined },
    options,
  );
  if (!result.ok) return { kind: "refused", status: 401, text: "authentication failure" };
  const { namespace } = result.caller;
  return options.namespaces.has(namespace) ? { kind: "everything" } : { kind: "namespace", namespace };
}
