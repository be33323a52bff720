import { setImmediate as turn, setTimeout as delay } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { ads } from "@tulle/api";
import { silentLog } from "@tulle/base";
import { AdsServer, type AdsServerOptions, type Nack } from "../index.ts";
import { RequestQueue } from "../request-queue.ts";
import { until } from "../scripted-server.fixture.ts";

export const A = "type.test/a";
export const B = "type.test/b";
export const NODE = { id: "ztunnel~1.1.1.1~z.ns~ns.svc.cluster.local" };
export const text = (value: string) => Uint8Array.from(Buffer.from(value));

export type Request = MessageInitShape<typeof ads.DeltaDiscoveryRequestSchema>;

/** A client that acknowledges only when the test says so. */
export class RawClient {
  readonly requests = new RequestQueue<Request>(10_000);
  readonly responses: ads.DeltaDiscoveryResponse[] = [];
  readonly ended = new AbortController();
  error: ConnectError | undefined;
  done = false;

  constructor(server: AdsServer, headers: Record<string, string> = { authorization: "good" }) {
    const transport = createRouterTransport((router) => server.register(router));
    const client = createClient(ads.AggregatedDiscoveryService, transport);
    const responses = client.deltaAggregatedResources(this.requests, { signal: this.ended.signal, headers });
    void this.#read(responses);
  }

  async #read(responses: AsyncIterable<ads.DeltaDiscoveryResponse>): Promise<void> {
    try {
      for await (const response of responses) this.responses.push(response);
    } catch (error) {
      this.error = error as ConnectError;
    }
    this.done = true;
  }

  ask(request: Request): void {
    this.requests.push(request);
  }

  ack(index: number, error?: string): void {
    const response = this.responses[index];
    const typeUrl = response?.typeUrl ?? "";
    const responseNonce = response?.nonce ?? "";
    this.requests.push({
      typeUrl,
      responseNonce,
      ...(error === undefined ? {} : { errorDetail: { code: 0, message: error } }),
    });
  }

  names(index: number): string {
    const response = this.responses[index];
    const names = response?.resources.map((resource) => resource.name).sort();
    return `${names?.join(" ") ?? ""} | ${response?.removedResources.join(" ") ?? ""}`;
  }

  async end(): Promise<void> {
    this.ended.abort();
    this.requests.end();
    await until(() => this.done);
  }
}

export function startServer(options: Partial<AdsServerOptions> = {}) {
  const nacks: Nack[] = [];
  const server = new AdsServer({
    types: [{ typeUrl: A }, { typeUrl: B, alwaysWildcard: true }],
    log: silentLog,
    authenticate: async ({ requestHeader }) =>
      requestHeader.get("authorization") === "good"
        ? { ok: true, principal: "p" }
        : { ok: false, reason: "a bad token" },
    batchWindowMs: 1,
    onNack: (_, nack) => nacks.push(nack),
    ...options,
  });
  const put = (name: string, value: string, typeUrl = A) =>
    server.update(typeUrl, { changed: [{ name, bytes: text(value) }] });
  return { server, nacks, put };
}

/** Long enough for anything that were to come to have come. */
export async function quiet(): Promise<void> {
  await delay(15);
  for (let i = 0; i < 10; i++) await turn();
}
