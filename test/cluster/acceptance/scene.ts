import { ECHO_PORTS, type EchoAnswer } from "../src/echo.ts";
import type { PodObject, Sample } from "../src/index.ts";

/** What the acceptance tests' tables need of a mesh, so that each runs them: a cluster, or the mesh of one machine. */

export const NAMESPACE = "acceptance";
/** Another namespace of the mesh. */
export const ELSEWHERE = "acceptance-elsewhere";
export const OUT_OF_MESH = { "istio.io/dataplane-mode": "none" } as const;
/** Listens on the pod's loopback address only. */
export const LOCAL_ONLY_PORT = ECHO_PORTS.tcp;

/**
 * Applications of the acceptance tests:
 * `captured` two pods, one a node · `client` n1 · `stranger` n2, of another identity · `uncaptured` not in the mesh ·
 * `local` with one port that only its pod reaches · `visitor` in another namespace.
 */
export type App = "captured" | "client" | "stranger" | "uncaptured" | "local" | "visitor";

export const APPS: readonly App[] = ["captured", "client", "stranger", "uncaptured", "local", "visitor"];

export interface Scene {
  /** The host of a ServiceEntry's endpoint that leads to `uncaptured`, by a name that the mesh's own DNS knows. */
  readonly namedEndpoint: string;
  pods(app: App): readonly PodObject[];
  /** The app's first pod. */
  pod(app: App): PodObject;
  /** Status and body of what each URL answers to a pod of the app, on connections of their own; throws when one does not. */
  get(app: App, ...urls: readonly string[]): Promise<string>;
  /** What the echo at the URL says to a pod of the app; throws when there is no answer. */
  ask(app: App, url: string): Promise<EchoAnswer>;
  /** What comes back from a TCP echo. */
  send(app: App, address: string, payload: string): Promise<string>;
  /** Whether a new connection of the app to `HOST:PORT` carries a line to and fro. */
  reaches(app: App, address: string): Promise<boolean>;
  /** What a pod's resolver says; throws when that is nothing. */
  lookUp(app: App, name: string): Promise<string[]>;
  apply(...objects: readonly object[]): Promise<void>;
  delete(...objects: readonly object[]): Promise<void>;
  /** Of a service in NAMESPACE. */
  clusterIPs(service: string): Promise<readonly string[]>;
  /** Of an AuthorizationPolicy in NAMESPACE. */
  policyConditions(name: string): Promise<readonly PolicyCondition[]>;
  /** What `tulle status` says when it ends with an exit code that tells of trouble; throws when it tells of none. */
  troubles(): Promise<string>;
  /** Of the ztunnels of both nodes. */
  ztunnelMetrics(prefix: string): Promise<Sample[]>;
}

export interface PolicyCondition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

export function namespaceOf(app: App): string {
  return app === "visitor" ? ELSEWHERE : NAMESPACE;
}

/** Of a pod, IPv4 first; ready for a URL. */
export function hosts({ status }: PodObject): string[] {
  return (status.podIPs ?? []).map(({ ip }) => (ip.includes(":") ? `[${ip}]` : ip));
}

/** The address in `1.2.3.4:80` or `[::1]:80`. */
export function hostOf(address: string): string {
  return new URL(`http://${address}`).hostname.replace(/^\[|\]$/g, "");
}

/** By HTTP where that is spoken, by an echo of TCP elsewhere. Refused, reset, or no answer in time is all the same to a client. */
export async function reaches(scene: Pick<Scene, "get" | "send">, app: App, address: string): Promise<boolean> {
  const isHttp = address.endsWith(`:${ECHO_PORTS.http}`) || address.endsWith(":80");
  return (isHttp ? scene.get(app, `http://${address}/`) : scene.send(app, address, "ping")).then(
    () => true,
    () => false,
  );
}
