/**
 * An HTTP/2 server in cleartext with prior knowledge, for conformance testers and load generators:
 * `node packages/h2/tools/server.ts --port N [--host IP]`. Answers 200 and echoes the body; a request without a body gets
 * a line of text, so that flow control can be tested on it too.
 */
import { parseArgs } from "node:util";
import {
  ByteQueue,
  type ConnectionHandler,
  type HeaderField,
  type Http2Stream,
  type RequestHead,
  type StreamHandler,
  servePlain,
  ThreadMemory,
} from "@tulle/h2";
import { NativeBuffer } from "@tulle/linux";
import { EpollReactor, type Listener, type ListenerHandler, type Reactor } from "@tulle/reactor";

const GREETING = NativeBuffer.from(Buffer.from("tulle speaks HTTP/2\n"));
/** How long a turn waits: signals are handled between two. */
const TURN_MS = 250;

/** Echoes what it gets; what cannot be sent yet waits, and stops the peer by flow control. */
class Echo implements StreamHandler {
  readonly #queue: ByteQueue;
  #ended = false;
  #trailers: readonly HeaderField[] | undefined;

  constructor(memory: ThreadMemory) {
    this.#queue = new ByteQueue(memory);
  }

  greet(stream: Http2Stream): void {
    this.#queue.push(GREETING, 0, GREETING.length);
    this.#ended = true;
    this.onSendable(stream);
  }

  onResponse(): void {}

  onData(stream: Http2Stream, buffer: NativeBuffer, offset: number, length: number): void {
    const sent = this.#queue.length === 0 ? stream.write(buffer.bytes, offset, length) : 0;
    if (sent < length) this.#queue.push(buffer, offset + sent, length - sent);
    if (sent > 0) stream.consume(sent, this.#queue.length);
  }

  onEnd(stream: Http2Stream, trailers: readonly HeaderField[] | undefined): void {
    this.#ended = true;
    this.#trailers = trailers;
    this.onSendable(stream);
  }

  onReset(): void {
    this.#queue.clear();
  }

  onSendable(stream: Http2Stream): void {
    const queue = this.#queue;
    while (queue.length > 0) {
      const sent = stream.write(queue.buffer.bytes, queue.offset, queue.available);
      if (sent === 0) return;
      queue.shift(sent);
      if (stream.headReceived) stream.consume(sent, queue.length);
    }
    if (!this.#ended) return;
    if (this.#trailers === undefined) stream.end();
    else stream.sendTrailers(this.#trailers);
  }
}

function main(): void {
  const { values } = parseArgs({ options: { port: { type: "string" }, host: { type: "string" } } });
  const reactor = new EpollReactor({ onFault: (error) => console.error(error) });
  const memory = new ThreadMemory();
  const handler: ConnectionHandler = {
    onReady() {},
    onRequest(stream: Http2Stream, head: RequestHead, ended: boolean) {
      const echo = new Echo(memory);
      stream.handler = echo;
      stream.respond(200, [["content-type", "text/plain"]], head.method === "HEAD");
      if (ended && head.method !== "HEAD") echo.greet(stream);
    },
    onStreamClosed() {},
    onGoAway() {},
    onClosed() {},
  };
  const accept: ListenerHandler = {
    onAccept: (connection) => void servePlain({ role: "server", connection, timers: reactor, memory, handler }),
    onAcceptError: (error) => console.error(`accept failed with errno ${-error}`),
  };
  const listener = listen(reactor, values.host, Number(values.port ?? 0), accept);
  console.log(`listening on ${listener.address.ip}:${listener.address.port}`);
  for (;;) reactor.turn(TURN_MS);
}

/** On all addresses of both families unless a host is given; a machine may lack IPv6. */
function listen(reactor: Reactor, host: string | undefined, port: number, handler: ListenerHandler): Listener {
  if (host !== undefined) return reactor.listen({ address: { ip: host, port } }, handler);
  try {
    return reactor.listen({ address: { ip: "::", port } }, handler);
  } catch {
    return reactor.listen({ address: { ip: "0.0.0.0", port } }, handler);
  }
}

main();
