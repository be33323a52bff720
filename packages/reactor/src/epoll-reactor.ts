import type { Random } from "@tulle/base";
import { type Descriptor, Errno, ignoreBrokenPipes, openEventDescriptor, Readiness, SystemError } from "@tulle/linux";
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
} from "./contract.ts";
import { EpollConnection } from "./epoll-connection.ts";
import { EpollCore, LONGEST_WAIT_MS } from "./epoll-core.ts";
import { EpollDatagram } from "./epoll-datagram.ts";
import { EpollListener } from "./epoll-listener.ts";
import { openConnecting, openDatagram, openListener } from "./epoll-socket.ts";
import { TimerWheel } from "./timer-wheel.ts";
import { TurnQueue } from "./turn-queue.ts";

export interface EpollReactorOptions {
  /** A NetNamespace, where sockets are made unless they say otherwise. Default: the thread's. The reactor does not close it. */
  readonly namespace?: Namespace;
  /** Default Math.random. */
  readonly random?: Random;
  /** Hears of every handler that has thrown. */
  readonly onFault?: (error: unknown) => void;
}

/** The event loop on the kernel's epoll. It belongs to the thread that made it. */
export class EpollReactor implements Reactor {
  readonly random: Random;
  readonly open: Reactor["open"];
  readonly #core: EpollCore;
  readonly #namespace: Namespace | undefined;
  readonly #timers: TimerWheel;
  readonly #deferred = new TurnQueue();
  readonly #wakeUp: Descriptor;
  #now = performance.now();
  #onWake: (() => void) | undefined;
  #closed = false;

  /** Throws SystemError. */
  constructor({ namespace, random = Math.random, onFault }: EpollReactorOptions = {}) {
    ignoreBrokenPipes();
    this.#namespace = namespace;
    this.random = random;
    this.#timers = new TimerWheel(this.#now);
    this.#core = new EpollCore(onFault);
    this.#wakeUp = openEventDescriptor();
    // Edge-triggered: every write to an eventfd is an edge, so that it need not be read.
    const target = { onEvents: () => this.#wake(), close: () => this.#wakeUp.close() };
    this.#core.register(target, this.#wakeUp, Readiness.readable | Readiness.edgeTriggered);
    const { open } = this.#core;
    const timers = this.#timers;
    this.open = {
      get listeners() {
        return open.listeners;
      },
      get connections() {
        return open.connections;
      },
      get datagrams() {
        return open.datagrams;
      },
      get timers() {
        return timers.size;
      },
    };
  }

  get faults(): number {
    return this.#core.faults;
  }

  get wakeDescriptor(): number {
    return this.#wakeUp.fd;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return Date.now();
  }

  listen(options: ListenOptions, handler: ListenerHandler): Listener {
    this.#mustBeOpen();
    const socket = openListener(options, this.#namespace);
    return orClose(socket.descriptor, () => new EpollListener(this.#core, socket, handler, this.after));
  }

  connect(options: ConnectOptions, handler: ConnectionHandler): Connection {
    this.#mustBeOpen();
    const connection = new EpollConnection(this.#core);
    connection.setHandler(handler);
    connection.setPeer(options.address);
    try {
      const descriptor = openConnecting(options, this.#namespace);
      orClose(descriptor, () => connection.beginConnecting(descriptor));
      const { timeoutMs } = options;
      if (timeoutMs !== undefined) {
        connection.setDeadline(this.after(timeoutMs, () => connection.connectingTooLong()));
      }
    } catch (error) {
      if (!(error instanceof SystemError)) {
        connection.close();
        throw error;
      }
      connection.beginFailing(-error.errno);
    }
    return connection;
  }

  datagram(options: DatagramOptions, handler: DatagramHandler): DatagramSocket {
    this.#mustBeOpen();
    const descriptor = openDatagram(options, this.#namespace);
    return orClose(descriptor, () => new EpollDatagram(this.#core, descriptor, handler));
  }

  /** Counts from now, not from the turn's time, which may be old by then: a timer is never early. */
  readonly after = (delayMs: number, callback: () => void): Timer => {
    this.#mustBeOpen();
    return this.#timers.add(performance.now(), delayMs, callback);
  };

  defer(task: Task): void {
    this.#deferred.add(task);
  }

  onWake(callback: () => void): void {
    if (this.#onWake !== undefined) throw new Error("onWake is set already");
    this.#onWake = callback;
  }

  turn(maxWaitMs: number): number {
    this.#mustBeOpen();
    const core = this.#core;
    core.turn++;
    const count = core.epoll.wait(this.#waitTime(maxWaitMs));
    this.#now = performance.now();
    if (count < 0 && count !== -Errno.EINTR) throw new SystemError("wait for events", count);
    let handled = 0;
    for (let i = 0; i < count; i++) {
      const target = core.targets.get(core.epoll.slot(i), core.epoll.generation(i));
      if (target === undefined) continue;
      handled++;
      target.onEvents(core.epoll.events(i));
    }
    handled += core.ready.run(runReady);
    handled += this.#timers.advance(this.#now, this.#runCallback);
    handled += this.#deferred.run(this.#runTask);
    return handled;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const target of this.#core.targets.all()) target.close();
    this.#core.close();
    this.#timers.clear();
    this.#deferred.clear();
  }

  #waitTime(maxWaitMs: number): number {
    if (this.#core.ready.size > 0 || this.#deferred.size > 0 || !(maxWaitMs > 0)) return 0;
    const wait = Math.min(maxWaitMs, LONGEST_WAIT_MS);
    const delay = this.#timers.size === 0 ? wait : this.#timers.delay(performance.now());
    return Math.ceil(Math.min(wait, delay));
  }

  #wake(): void {
    if (this.#onWake !== undefined) this.#runCallback(this.#onWake);
  }

  readonly #runCallback = (callback: () => void): void => {
    try {
      callback();
    } catch (error) {
      this.#core.fault(error);
    }
  };

  readonly #runTask = (task: Task): void => {
    try {
      task.run();
    } catch (error) {
      this.#core.fault(error);
    }
  };

  #mustBeOpen(): void {
    if (this.#closed) throw new Error("the reactor is closed");
  }
}

/** Connections and datagram sockets have their own barrier inside. */
function runReady(task: Task): void {
  task.run();
}

/** Gives what `action` gives; when it throws, the descriptor is closed. */
function orClose<T>(descriptor: Descriptor, action: () => T): T {
  try {
    return action();
  } catch (error) {
    descriptor.close();
    throw error;
  }
}
