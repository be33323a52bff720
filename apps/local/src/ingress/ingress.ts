import { createServer, type Server, type Socket } from "node:net";
import type { Log } from "@tulle/base";
import type { SystemPod } from "../objects/scheduler.ts";
import { hostnameOf } from "../objects/endpoints.ts";
import type { Objects } from "../objects/view.ts";
import { describe, keyOf, type Service } from "../resources/kinds.ts";
import { INGRESS_NAMESPACE } from "../resources/together-check.ts";
import type { Child } from "../runtime/child-process.ts";
import type { RelayMessage } from "./relay.ts";

/**
 * Services of type LoadBalancer on ports of this machine. The client outside is plain TCP over loopback; from the ingress pod
 * on, the connection is the mesh's, under the identity of that pod: nothing in plaintext crosses the bridge.
 */

export const INGRESS_ACCOUNT = "ingress";
/** Loopback only: a try-out does not belong on the network of whoever runs it. */
const HOST = "127.0.0.1";

/** The pod that the connections enter the mesh through. `appFolder` holds relay.ts. */
export function ingressPod(appFolder: string): SystemPod {
  return {
    namespace: INGRESS_NAMESPACE,
    name: INGRESS_ACCOUNT,
    serviceAccountName: INGRESS_ACCOUNT,
    labels: { app: INGRESS_ACCOUNT, "istio.io/dataplane-mode": "ambient" },
    container: { name: "relay", command: ["node", "relay.ts"] },
    appFolder,
  };
}

export const INGRESS_POD_KEY = `${INGRESS_NAMESPACE}/${INGRESS_ACCOUNT}`;

/** How soon a port that was not free is tried again. */
const RETRY_MS = 500;

export interface Published {
  readonly service: string;
  readonly url: string;
}

interface Route {
  readonly service: string;
  readonly host: string;
  readonly port: number;
  readonly hostPort: number;
}

export class Ingress {
  readonly #log: Log;
  readonly #clusterDomain: string;
  readonly #portOffset: number;
  #routes = new Map<string, Route>();
  readonly #complaints = new Set<string>();
  #child: Child | undefined;

  /** `portOffset` is added to every service port, so that several meshes fit on one machine. */
  constructor(options: { readonly clusterDomain: string; readonly portOffset: number; readonly log: Log }) {
    this.#log = options.log;
    this.#clusterDomain = options.clusterDomain;
    this.#portOffset = options.portOffset;
  }

  get published(): Published[] {
    return [...this.#routes.values()].map(({ service, hostPort }) => ({
      service,
      url: `http://localhost:${hostPort}/`,
    }));
  }

  /** Rejects when a port that is wanted now cannot be had; for the start, where it is an error. */
  async checkPorts(services: readonly Service[]): Promise<void> {
    for (const route of this.#wanted(services).values()) (await listen(route, (early) => early.destroy())).close();
  }

  /** Publishes what is new and takes back what is gone. */
  update(objects: Objects): void {
    const before = this.#routes;
    // One that has no address yet is about to get one.
    const wanted = this.#wanted(objects.services.filter(({ spec }) => spec.clusterIPs !== undefined));
    // A route that stays is the same object: that is how an attempt to open its port knows that it is still wanted.
    for (const [key, route] of before) if (wanted.has(key)) wanted.set(key, route);
    this.#routes = wanted;
    for (const [key, route] of before) {
      if (!wanted.has(key) && this.#child?.exited === undefined)
        this.#child?.process.send(messageOf("withdraw", route));
    }
    for (const [key, route] of wanted) if (!before.has(key)) this.#hand(key, route);
  }

  /** A new relay process: it gets all listeners. */
  readonly attach = (child: Child): void => {
    this.#child = child;
    for (const [key, route] of this.#routes) this.#hand(key, route);
  };

  #wanted(services: readonly Service[]): Map<string, Route> {
    const routes = new Map<string, Route>();
    for (const service of services.filter(({ spec }) => spec.type === "LoadBalancer")) {
      for (const { port } of service.spec.ports ?? []) {
        const hostPort = port + this.#portOffset;
        const route = { service: keyOf(service), host: this.#addressOf(service), port, hostPort };
        const clash = [...routes.values()].find((one) => one.hostPort === hostPort);
        if (clash === undefined) routes.set(`${route.service} ${route.host} ${port}`, route);
        else
          this.#complain(`${describe(service)}: port ${hostPort} of this machine is taken by service ${clash.service}`);
      }
    }
    return routes;
  }

  #addressOf(service: Service): string {
    const [first] = service.spec.clusterIPs ?? [];
    return first === undefined || first === "None" ? hostnameOf(service, this.#clusterDomain) : first;
  }

  /** Gives a listener to the relay; tries again while the port is not free and the route is still wanted. */
  #hand(key: string, route: Route): void {
    const child = this.#child;
    if (child === undefined || child.exited !== undefined || this.#routes.get(key) !== route) return;
    listen(route, (early) => child.process.send(messageOf("connection", route), early)).then(
      (server) => child.process.send(messageOf("publish", route), server, () => server.close()),
      (error: Error) => {
        this.#complain(error.message);
        setTimeout(() => this.#hand(key, route), RETRY_MS).unref();
      },
    );
  }

  /** Once for each reason: objects change often. */
  #complain(message: string): void {
    if (this.#complaints.has(message)) return;
    this.#complaints.add(message);
    this.#log.error(message);
  }
}

function messageOf(type: RelayMessage["type"], { host, port, hostPort }: Route): RelayMessage {
  return { type, listener: hostPort, host, port };
}

/** The socket is made here, in the host's namespace; `early` gets connections that come before it is handed on. */
function listen(route: Route, early: (connection: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ pauseOnConnect: true }, early);
    server.on("error", (error: NodeJS.ErrnoException) => {
      const why =
        error.code === "EADDRINUSE"
          ? "another program uses it: end that program, or pass --port-offset 1000"
          : error.message;
      reject(new Error(`cannot serve ${route.service} on port ${route.hostPort} of this machine: ${why}`));
    });
    server.listen({ host: HOST, port: route.hostPort }, () => resolve(server));
  });
}
