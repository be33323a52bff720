import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketAddress } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import {
  AGAIN,
  type Connection,
  type ConnectionHandler,
  type Listener,
  type ListenOptions,
  type Reactor,
} from "@tulle/reactor";

/** Two reactors that reach each other, and what a test needs to drive them. They may be one and the same. */
export interface ComplianceWorld {
  readonly client: Reactor;
  readonly server: Reactor;
  /** The server's addresses, as the client reaches them. */
  readonly serverV4: string;
  readonly serverV6: string;
  /** An address of nobody: what is sent there vanishes, no answer comes. */
  readonly nowhere: SocketAddress;
  /** Gives each reactor one turn; returns within a few milliseconds of the world's time. */
  turn(): void;
  /** What another thread does to wake a reactor. */
  wake(reactor: Reactor): void;
  /** From now on accept fails with EMFILE (true), or works again (false). */
  failAccepts(fail: boolean): void;
  /** Closes both reactors and what else the world is made of. */
  close(): void;
}

/** One test on a world of its own. Everything that is open afterwards must go by closing the reactors. */
export type ComplianceTest = (world: ComplianceWorld) => void;

/** Time of the world, ms, after which a condition that has not come true has failed. */
const PATIENCE_MS = 10_000;
const SCRATCH_SIZE = 256 * 1024;

/** Registers the tests of one group. */
export function register(
  name: string,
  create: () => ComplianceWorld,
  tests: Readonly<Record<string, ComplianceTest>>,
): void {
  for (const [title, run] of Object.entries(tests)) {
    test(`${name}: ${title}`, () => {
      const world = create();
      try {
        run(world);
      } finally {
        world.close();
      }
      for (const reactor of [world.client, world.server]) {
        const { listeners, connections, datagrams, timers } = reactor.open;
        assert.deepEqual(
          { listeners, connections, datagrams, timers },
          { listeners: 0, connections: 0, datagrams: 0, timers: 0 },
        );
      }
    });
  }
}

/** Turns the world until `condition` holds. */
export function until(world: ComplianceWorld, what: string, condition: () => boolean, patienceMs = PATIENCE_MS): void {
  const deadline = world.client.now() + patienceMs;
  while (!condition()) {
    assert.ok(world.client.now() < deadline, `waited in vain until ${what}`);
    world.turn();
  }
}

/** Turns the world for a while, so that what must not happen has had its chance. */
export function settle(world: ComplianceWorld, durationMs = 30): void {
  const end = world.client.now() + durationMs;
  while (world.client.now() < end) world.turn();
}

/** A handler that remembers what it was told. By default it reads whatever comes. */
export class Peer implements ConnectionHandler {
  connection!: Connection;
  /** What onConnected has said. */
  connected: number | undefined;
  readonly received: Buffer[] = [];
  receivedBytes = 0;
  ended = false;
  /** The negative errno that read has given. */
  error = 0;
  readableCalls = 0;
  writableCalls = 0;
  reads = true;
  /** Replaces the default reading. */
  readable: ((peer: Peer) => void) | undefined;
  writable: ((peer: Peer) => void) | undefined;
  readonly scratch = NativeBuffer.alloc(SCRATCH_SIZE);

  onConnected(connection: Connection, error: number): void {
    this.connection = connection;
    this.connected = error;
  }

  onReadable(connection: Connection): void {
    this.connection = connection;
    this.readableCalls++;
    if (this.readable !== undefined) this.readable(this);
    else if (this.reads) this.drain();
  }

  onWritable(): void {
    this.writableCalls++;
    this.writable?.(this);
  }

  /** Reads until there is no more for now. */
  drain(): void {
    for (;;) {
      const count = this.readOnce(SCRATCH_SIZE);
      if (count <= 0) return;
    }
  }

  /** One read; what it has given is remembered. */
  readOnce(length: number): number {
    const count = this.connection.read(this.scratch, 0, length);
    if (count > 0) {
      this.received.push(Buffer.from(this.scratch.bytes.subarray(0, count)));
      this.receivedBytes += count;
    } else if (count === 0) this.ended = true;
    else if (count !== AGAIN) this.error = count;
    return count;
  }

  write(text: string): number {
    const buffer = NativeBuffer.from(Buffer.from(text));
    return this.connection.write(buffer, 0, buffer.length);
  }

  get text(): string {
    return Buffer.concat(this.received).toString();
  }

  get over(): boolean {
    return this.ended || this.error !== 0;
  }
}

/** A listener that gives every connection a Peer. */
export interface Accepting {
  readonly listener: Listener;
  readonly accepted: Peer[];
  readonly errors: number[];
}

/** `prepare` sees each peer before anything can happen to it. */
export function listenOn(
  world: ComplianceWorld,
  ip: string,
  prepare: (peer: Peer) => void = () => {},
  options: Partial<ListenOptions> = {},
): Accepting {
  const accepted: Peer[] = [];
  const errors: number[] = [];
  const listener = world.server.listen(
    { ...options, address: { ip, port: 0 } },
    {
      onAccept(connection) {
        const peer = new Peer();
        peer.connection = connection;
        prepare(peer);
        accepted.push(peer);
        connection.setHandler(peer);
      },
      onAcceptError: (error) => errors.push(error),
    },
  );
  return { listener, accepted, errors };
}

/** Starts to connect. */
export function dial(world: ComplianceWorld, address: SocketAddress, peer: Peer = new Peer()): Peer {
  peer.connection = world.client.connect({ address }, peer);
  return peer;
}

/** Two connected ends. */
export function connectPair(
  world: ComplianceWorld,
  prepareServer?: (peer: Peer) => void,
  prepareClient?: (peer: Peer) => void,
): { readonly client: Peer; readonly server: Peer; readonly accepting: Accepting } {
  const accepting = listenOn(world, world.serverV4, prepareServer);
  const client = new Peer();
  prepareClient?.(client);
  dial(world, { ip: world.serverV4, port: accepting.listener.address.port }, client);
  const server = awaitPair(world, client, accepting);
  return { client, server, accepting };
}

/** Waits until a listener's first client is connected and its other end accepted; returns that end. */
export function awaitPair(world: ComplianceWorld, client: Peer, { accepted }: Accepting): Peer {
  until(world, "the connection is made", () => client.connected !== undefined && accepted.length > 0);
  assert.equal(client.connected, 0);
  const server = accepted.at(-1);
  assert.ok(server !== undefined);
  return server;
}
