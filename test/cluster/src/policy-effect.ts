import { until } from "@tulle/lab";
import type { PodReference } from "./containers.ts";
import { ECHO_PORTS } from "./echo.ts";
import type { TestCluster } from "./test-cluster.ts";

export interface EffectOptions {
  /** The pod that is to be refused; it runs labbox. */
  readonly client: PodReference;
  /** An echo's host name or address. */
  readonly server: string;
  /** Makes the change with kubectl; its end is the zero of time. */
  readonly change: () => Promise<void>;
}

/** Milliseconds from the end of the change; below zero when the effect came first. */
export interface Effect {
  /** Until the first new connection was refused. */
  readonly newMs: number;
  /** Until the open connection was cut. */
  readonly openMs: number;
}

/** New connections a second: the resolution is 5 ms. */
const RATE = 200;
/** Between two lines on the open connection. */
const HOLD_INTERVAL_MS = 5;
/** A policy that has no effect after this time has none. */
const EFFECT_LIMIT_MS = 10_000;

/** Makes a change that refuses a client, and tells when its new and open connections to an echo felt it. */
export async function refusalOf(cluster: TestCluster, { client, server, change }: EffectOptions): Promise<Effect> {
  await using held = await cluster.holdConnection(client, {
    address: `${server}:${ECHO_PORTS.tcp}`,
    intervalMs: HOLD_INTERVAL_MS,
  });
  const url = `http://${server}:${ECHO_PORTS.http}/`;
  await using load = await cluster.startLoad(client, { url, rate: RATE, newShare: 1 });
  // Some requests first: a refusal from before the change would be no effect of it.
  await new Promise((resolve) => setTimeout(resolve, 100));
  if (load.failures[0] !== undefined) throw new Error(`refused before the change: ${load.failures[0].error}`);
  if (held.failure !== undefined) throw new Error(`cut before the change: ${held.failure.error}`);
  await change();
  const start = Date.now();
  const options = { timeoutMs: EFFECT_LIMIT_MS, intervalMs: 5 };
  const [refused, cut] = await Promise.all([
    until(() => load.failures[0], { ...options, what: `${client} to be refused by ${server}` }),
    until(() => held.failure, { ...options, what: `the open connection of ${client} to ${server} to be cut` }),
  ]);
  return { newMs: refused.time - start, openMs: cut.time - start };
}

/** Makes a change that lets a refused client in, and tells after how many milliseconds a request of it was answered. */
export async function admissionOf(cluster: TestCluster, { client, server, change }: EffectOptions): Promise<number> {
  await change();
  const start = Date.now();
  await cluster.waitForEndpoint({ from: client, url: `http://${server}:${ECHO_PORTS.http}/`, answer: /^200 / });
  return Date.now() - start;
}
