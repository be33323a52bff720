import { isUnspecified, type SocketAddress } from "@tulle/base";
import { Errno, SystemError } from "@tulle/linux";
import type {
  Connection,
  ConnectionHandler,
  ConnectOptions,
  DatagramHandler,
  DatagramOptions,
  DatagramSocket,
  Listener,
  ListenerHandler,
  ListenOptions,
  Namespace,
  Reactor,
  Task,
  Timer,
} from "../contract.ts";
import { SimulatedConnection } from "./connection.ts";
import { SimulatedDatagramSocket } from "./datagram.ts";
import { SimulatedListener } from "./listener.ts";
import { SimulatedNamespace, type SimulatedNetwork } from "./network.ts";

/** How long the kernel tries to connect to an address where nobody answers (tcp_syn_retries, shortened). */
const CONNECT_TIMEOUT_MS = 60_000;

interface Ready {
  readonly connection: SimulatedConnection | undefined;
  readonly handle: () => void;
}

/** The reactor of the simulator: the contract of `Reactor` over a `SimulatedNetwork`, in virtual time. */
export class SimulatedReactor implements Reactor {
  readonly network: SimulatedNetwork;
  readonly wakeDescriptor = -1;
  readonly connections = new Set<SimulatedConnection>();
  readonly listeners = new Set<SimulatedListener>();
  readonly datagrams = new Set<SimulatedDatagramSocket>();
  /** Turns so far: connections count their share of a turn by it. */
  turns = 0;
  faults = 0;
  readonly #namespace: SimulatedNamespace;
  readonly #ready: Ready[] = [];
  readonly #tasks: Task[] = [];
  readonly #timers = new Set<Timer>();
  #wake: () => void = () => {};

  constructor(network: SimulatedNetwork, namespace: SimulatedNamespace) {
    this.network = network;
    this.#namespace = namespace;
  }

  now(): number {
    return this.network.now;
  }

  wall(): number {
    return this.network.wall;
  }

  random(): number {
    return this.network.random();
  }

  get open() {
    return {
      listeners: this.listeners.size,
      connections: this.connections.size,
      datagrams: this.datagrams.size,
      timers: this.#timers.size,
    };
  }

  listen(options: ListenOptions, handler: ListenerHandler): Listener {
    const namespace = this.#enter(options.namespace);
    const { ip, port } = options.address;
    const taken = namespace.listeners.get(port);
    if (port !== 0 && taken !== undefined && options.reusePort !== true) {
      throw new SystemError(`bind ${ip}:${port}`, Errno.EADDRINUSE);
    }
    if (!isUnspecified(ip) && !namespace.owns(ip)) throw new SystemError(`bind ${ip}:${port}`, Errno.EADDRNOTAVAIL);
    return new SimulatedListener(this, namespace, options, handler);
  }

  connect(options: ConnectOptions, handler: ConnectionHandler): Connection {
    const { network } = this;
    const namespace = this.#enter(options.namespace);
    const source = options.source !== undefined && options.source !== options.address.ip ? options.source : undefined;
    const ephemeral = namespace.ephemeralPort();
    const port = source === undefined ? ephemeral : (options.sourcePort ?? ephemeral);
    const local = { ip: source ?? namespace.sourceFor(options.address.ip), port };
    const client = new SimulatedConnection({
      reactor: this,
      namespace,
      local,
      peer: options.address,
      original: local,
      handler,
    });
    network.record("connect", `${client.id} ${local.ip}>${options.address.ip}:${options.address.port}`);
    const patienceMs = Math.min(options.timeoutMs ?? CONNECT_TIMEOUT_MS, CONNECT_TIMEOUT_MS);
    const target = network.route(namespace, options.address, options.mark !== undefined);
    const arrival = target === undefined ? Number.POSITIVE_INFINITY : network.arrival(namespace, target.namespace, 0);
    if (target === undefined || arrival === Number.POSITIVE_INFINITY) {
      network.schedule(patienceMs, () => client.connected(-Errno.ETIMEDOUT));
      return client;
    }
    network.scheduleAt(arrival, () => {
      const error = this.#handshake(client, target.namespace, target.port, options.address);
      const back = network.arrival(target.namespace, namespace, 0);
      if (back === Number.POSITIVE_INFINITY) {
        network.schedule(patienceMs, () => client.connected(-Errno.ETIMEDOUT));
      } else {
        network.scheduleAt(back, () => client.connected(error));
      }
    });
    return client;
  }

  datagram(options: DatagramOptions, handler: DatagramHandler): DatagramSocket {
    const namespace = this.#enter(options.namespace);
    const { ip, port } = options.address;
    if (port !== 0 && namespace.datagrams.has(port) && options.reusePort !== true) {
      throw new SystemError(`bind ${ip}:${port}`, Errno.EADDRINUSE);
    }
    return new SimulatedDatagramSocket(this, namespace, options, handler);
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = {
      cancel: () => {
        if (this.#timers.delete(timer)) event.cancel();
      },
    };
    this.#timers.add(timer);
    const event = this.network.schedule(Math.max(0, delayMs), () => {
      this.enqueue(undefined, () => {
        if (this.#timers.delete(timer)) callback();
      });
    });
    return timer;
  }

  defer(task: Task): void {
    if (task.deferred) return;
    task.deferred = true;
    this.#tasks.push(task);
  }

  onWake(callback: () => void): void {
    this.#wake = callback;
  }

  /** What the other thread's write to the wake descriptor does. */
  wake(): void {
    this.enqueue(undefined, () => this.#wake());
  }

  turn(maxWaitMs: number): number {
    const deadline = this.network.now + maxWaitMs;
    while (this.#ready.length === 0 && this.#tasks.length === 0) {
      if (maxWaitMs === 0 || !this.network.advance(deadline)) return 0;
    }
    this.turns++;
    const ready = this.#ready.splice(0);
    for (const { connection, handle } of ready) this.guard(connection, handle);
    // What asks for itself again runs in the next turn.
    for (const task of this.#tasks.splice(0)) {
      task.deferred = false;
      this.guard(undefined, () => task.run());
    }
    return Math.max(1, ready.length);
  }

  close(): void {
    for (const listener of [...this.listeners]) listener.close();
    for (const connection of [...this.connections]) connection.reset();
    for (const datagram of [...this.datagrams]) datagram.close();
    for (const timer of [...this.#timers]) timer.cancel();
  }

  // === for connections and listeners

  enqueue(connection: SimulatedConnection | undefined, handle: () => void): void {
    this.#ready.push({ connection, handle });
  }

  /** The barrier around every handler: what it throws resets its own connection and nothing else. */
  guard(connection: SimulatedConnection | undefined, handle: () => void): void {
    try {
      handle();
    } catch (error) {
      this.faults++;
      this.network.record("fault", error instanceof Error ? error.message : String(error));
      connection?.reset();
    }
  }

  /** The SYN has arrived: 0 or -errno. */
  #handshake(
    client: SimulatedConnection,
    namespace: SimulatedNamespace,
    port: number,
    original: SocketAddress,
  ): number {
    const { network } = this;
    if (client.closed) return -Errno.ECONNREFUSED;
    if (network.happens(network.faults.connectFailures)) return -Errno.ECONNREFUSED;
    const listeners = namespace.listeners.get(port) ?? [];
    const listener = listeners[Math.floor(network.random() * listeners.length)];
    if (listener === undefined) return -Errno.ECONNREFUSED;
    const server = new SimulatedConnection({
      reactor: listener.reactor,
      namespace,
      local: { ip: original.ip, port },
      peer: client.local,
      original,
    });
    SimulatedConnection.join(network, client, server);
    if (listener.offer(server)) return 0;
    server.reset();
    return -Errno.ECONNREFUSED;
  }

  #enter(namespace: Namespace | undefined): SimulatedNamespace {
    if (namespace === undefined) return this.#namespace;
    if (namespace instanceof SimulatedNamespace) return namespace;
    throw new TypeError("a simulated reactor needs a simulated namespace");
  }
}
