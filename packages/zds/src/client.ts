import { Backoff, type Log, messageOf, sleep } from "@tulle/base";
import { type Descriptor, NetNamespace, SeqpacketSocket } from "@tulle/linux";
import { PacketSocket } from "./packet-socket.ts";
import { decodeRequest, encodeAck, encodeHello, type ZdsAck, type ZdsRequest } from "./protocol.ts";
import { type StateManager, ZdsProtocolError } from "./state-manager.ts";

export interface ZdsClientOptions {
  /** The agent's socket. Default in ztunnel: /var/run/ztunnel/ztunnel.sock. */
  readonly path: string;
  readonly state: StateManager<NetNamespace>;
  readonly log: Log;
  /** Connection made or lost. */
  readonly onConnected?: (connected: boolean) => void;
}

/** Waits between two tries to connect (spec: l4-ztunnel §7.4). No longer than 1 s where upstream waits 15: until then no pod of the node starts. */
const CONNECT_BACKOFF = { initialMs: 20, maxMs: 1_000 };
/** The agent waits for each answer before it goes on; one that does not is not listened to. */
const MAX_WAITING = 4;

/**
 * The proxy's end of the node agent's protocol: connects, says hello, and hands each message to the state manager, one
 * after another, each answered before the next is read (spec: l4-ztunnel §7).
 */
export class ZdsClient {
  readonly #options: ZdsClientOptions;
  readonly #ended = new AbortController();
  #connection: Connection | undefined;

  constructor(options: ZdsClientOptions) {
    this.#options = options;
  }

  /** Runs until `close`. Rejects with ZdsProtocolError when the agent breaks the protocol: the process must not go on. */
  async run(): Promise<void> {
    const backoff = new Backoff(CONNECT_BACKOFF);
    const { signal } = this.#ended;
    while (!signal.aborted) {
      let socket: SeqpacketSocket;
      try {
        socket = SeqpacketSocket.connect(this.#options.path);
      } catch (error) {
        this.#options.log.debug("node agent is not there", { path: this.#options.path, error: messageOf(error) });
        await sleep(backoff.next(), signal);
        continue;
      }
      // At once after a connection that worked; an agent that accepts and hangs up must not make this loop spin.
      if (await this.#serve(socket)) backoff.reset();
      else await sleep(backoff.next(), signal);
    }
  }

  close(): void {
    this.#ended.abort();
    this.#connection?.close();
  }

  /** Whether the agent has said anything. */
  async #serve(socket: SeqpacketSocket): Promise<boolean> {
    const { state, log, onConnected } = this.#options;
    const connection = new Connection(socket, state, log);
    this.#connection = connection;
    state.connected();
    onConnected?.(true);
    log.info("connected to the node agent");
    try {
      const reason = await connection.run();
      if (!this.#ended.signal.aborted) log.warn("connection to the node agent ended", { reason });
      return connection.used;
    } finally {
      this.#connection = undefined;
      state.disconnected();
      onConnected?.(false);
    }
  }
}

/** One connection, from hello to its end. */
class Connection {
  readonly #socket: PacketSocket;
  readonly #state: StateManager<NetNamespace>;
  readonly #log: Log;
  readonly #over = Promise.withResolvers<string>();
  /** Messages are handled in order. */
  #queue: Promise<void> = Promise.resolve();
  #waiting = 0;
  #broken = false;
  /** Whether a message was accepted. */
  used = false;

  constructor(socket: SeqpacketSocket, state: StateManager<NetNamespace>, log: Log) {
    this.#state = state;
    this.#log = log;
    this.#socket = new PacketSocket(socket, {
      onPacket: (bytes, descriptors) => this.#enqueue(bytes, descriptors),
      onTruncated: () => this.#refuse("packet is too long or has too many descriptors"),
      onEnd: (error) => this.#over.resolve(error ?? "closed by the agent"),
    });
  }

  /** Resolves with why it ended; rejects with ZdsProtocolError. */
  async run(): Promise<string> {
    const error = this.#socket.send(encodeHello());
    if (error !== undefined) this.#over.resolve(error);
    try {
      return await this.#over.promise;
    } finally {
      this.#socket.close();
    }
  }

  close(): void {
    this.#socket.close();
    this.#over.resolve("closed");
  }

  #enqueue(bytes: Uint8Array, descriptors: Descriptor[]): void {
    if (this.#waiting >= MAX_WAITING) {
      closeAll(descriptors);
      return this.#refuse("more messages than answers");
    }
    this.#waiting++;
    this.#queue = this.#queue.then(async () => {
      this.#waiting--;
      // After an unreadable message, what follows belongs to a snapshot that will be sent anew.
      if (this.#broken) closeAll(descriptors);
      else await this.#onPacket(bytes, descriptors);
    });
  }

  async #onPacket(bytes: Uint8Array, descriptors: Descriptor[]): Promise<void> {
    const request = decodeRequest(bytes);
    const wanted = request?.kind === "add" ? 1 : 0;
    if (request === undefined || descriptors.length !== wanted) {
      closeAll(descriptors);
      const what = request === undefined ? "unknown message" : `${request.kind} with ${descriptors.length} descriptors`;
      return this.#refuse(what);
    }
    try {
      await this.#handle(request, descriptors[0]);
      this.used = true;
      this.#answer({ error: undefined });
    } catch (error) {
      this.#fail(request, error);
    }
  }

  async #handle(request: ZdsRequest, descriptor: Descriptor | undefined): Promise<void> {
    switch (request.kind) {
      case "add": {
        if (request.info === undefined || descriptor === undefined) {
          descriptor?.close();
          throw new ZdsProtocolError("workload_info is missing");
        }
        return this.#state.add(request.uid, request.info, NetNamespace.adopt(descriptor));
      }
      case "keep":
        return this.#state.keep(request.uid);
      case "del":
        return this.#state.del(request.uid);
      case "snapshot-sent":
        return this.#state.snapshotSent();
      default:
        request satisfies never;
    }
  }

  #fail(request: ZdsRequest, error: unknown): void {
    const text = messageOf(error);
    if (error instanceof ZdsProtocolError) {
      this.#broken = true;
      this.#answer({ error: `failure to process message : ${text}` });
      this.#over.reject(error);
      return;
    }
    this.#log.warn("proxy could not be started", { uid: "uid" in request ? request.uid : undefined, error: text });
    this.#answer({ error: `failure to start proxy : ${text}` });
  }

  /** A message that cannot be read: the connection is made anew, with a new snapshot. */
  #refuse(what: string): void {
    this.#broken = true;
    this.#answer({ error: `failure to read message : ${what}` });
    this.#over.resolve(`failure to read message : ${what}`);
  }

  #answer(ack: ZdsAck): void {
    const error = this.#socket.send(encodeAck(ack));
    if (error !== undefined) this.#over.resolve(error);
  }
}

function closeAll(descriptors: readonly Descriptor[]): void {
  for (const descriptor of descriptors) descriptor.close();
}
