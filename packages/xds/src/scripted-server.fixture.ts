import { setImmediate as turn } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type ConnectError, createRouterTransport } from "@connectrpc/connect";
import { ads } from "@tulle/api";
import type { XdsChannel } from "./client.ts";
import { RequestQueue } from "./request-queue.ts";

type Response = MessageInitShape<typeof ads.DeltaDiscoveryResponseSchema>;

/** One stream as the server sees it. */
export class ScriptedStream {
  readonly requests: ads.DeltaDiscoveryRequest[] = [];
  readonly #responses = new RequestQueue<Response | ConnectError>(1000);

  respond(response: Response): void {
    this.#responses.push(response);
  }

  end(error?: ConnectError): void {
    if (error !== undefined) this.#responses.push(error);
    this.#responses.end();
  }

  async *run(requests: AsyncIterable<ads.DeltaDiscoveryRequest>): AsyncGenerator<Response> {
    void this.#read(requests);
    for await (const next of this.#responses) {
      if (next instanceof Error) throw next;
      yield next;
    }
  }

  async #read(requests: AsyncIterable<ads.DeltaDiscoveryRequest>): Promise<void> {
    try {
      for await (const request of requests) this.requests.push(request);
    } catch {
      // The client has ended the stream.
    }
  }
}

/** A discovery server whose every word the test decides. */
export class ScriptedServer {
  readonly streams: ScriptedStream[] = [];
  /** Connections that were opened and not closed. */
  open = 0;
  /** Set: connecting fails with it. */
  refuse: Error | undefined;
  readonly #transport = createRouterTransport((router) => {
    router.service(ads.AggregatedDiscoveryService, {
      deltaAggregatedResources: (requests) => {
        const stream = new ScriptedStream();
        this.streams.push(stream);
        return stream.run(requests);
      },
    });
  });

  readonly connect = async (): Promise<XdsChannel> => {
    if (this.refuse !== undefined) throw this.refuse;
    this.open++;
    return {
      transport: this.#transport,
      close: () => {
        this.open--;
      },
    };
  };

  get latest(): ScriptedStream {
    const stream = this.streams.at(-1);
    if (stream === undefined) throw new Error("nobody has connected");
    return stream;
  }
}

/** Waits until something has come true; it takes no time but that of the event loop. */
export async function until(condition: () => boolean, what = "the condition"): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`${what} did not come true within 5 s`);
    await turn();
  }
}
