import type { SocketAddress } from "@tulle/base";
import type { NativeBuffer } from "@tulle/linux";

/**
 * The event loop of a data thread. Two implementations: epoll (`EpollReactor`) and simulated (`SimulatedReactor`); one
 * compliance suite in testkit holds for both. Single-threaded; nothing here returns a promise. Results of calls follow
 * the kernel: a count, or a negative errno.
 */

/** No progress now. The handler is called again as soon as there may be some; nothing needs to be re-armed. */
export const AGAIN = -11;

/** A network namespace in which sockets are created. `key` is unique among the namespaces that are open. */
export interface Namespace {
  readonly key: string;
}

export interface Reactor {
  /** Monotonic milliseconds, read once per turn. */
  now(): number;
  /** Milliseconds since the epoch. */
  wall(): number;
  /** A number in [0, 1); seeded in the simulator. */
  random(): number;

  /** Throws SystemError when the socket cannot be made, bound or listened on. */
  listen(options: ListenOptions, handler: ListenerHandler): Listener;
  /** Never throws for network reasons: failures arrive at `handler.onConnected(connection, -errno)`, never inside this call. */
  connect(options: ConnectOptions, handler: ConnectionHandler): Connection;
  /** Throws SystemError when the socket cannot be made or bound. */
  datagram(options: DatagramOptions, handler: DatagramHandler): DatagramSocket;

  /** Calls back once after `delayMs` (resolution: the wheel's tick, 8 ms; never early). */
  after(delayMs: number, callback: () => void): Timer;
  /**
   * Runs `task.run()` at the end of this turn, once however often it was asked for in the turn (use: flush what was
   * queued). What is asked for while the tasks of a turn run waits for the end of the next turn, which follows at once.
   */
  defer(task: Task): void;
  /** Called on the reactor's thread after another thread has used `waker()`. Set once. */
  onWake(callback: () => void): void;
  /** The descriptor that another thread writes to (see `Waker` in linux); -1 in the simulator. */
  readonly wakeDescriptor: number;

  /** One turn: waits at most `maxWaitMs` for something to happen, then handles it. Returns how many events were handled. */
  turn(maxWaitMs: number): number;
  /** Closes everything that is still open. */
  close(): void;
  /** What is open now; zero everywhere after everything was closed. */
  readonly open: {
    readonly listeners: number;
    readonly connections: number;
    readonly datagrams: number;
    readonly timers: number;
  };
  /** How many handler calls have thrown; each reset its own connection and nothing else. */
  readonly faults: number;
}

/** A task must be the same object each time, so that `defer` can see that it is already queued; `deferred` belongs to the reactor. */
export interface Task {
  deferred: boolean;
  run(): void;
}

export interface Timer {
  cancel(): void;
}

export interface SocketOptions {
  /** Where the socket is created. Default: the reactor's own namespace. */
  readonly namespace?: Namespace;
  /** SO_MARK. Failure to set it is an error. */
  readonly mark?: number;
}

export interface KeepAlive {
  readonly idleSeconds: number;
  readonly intervalSeconds: number;
  readonly retries: number;
  /** TCP_USER_TIMEOUT in milliseconds; 0 or absent leaves the kernel's default. */
  readonly userTimeoutMs?: number;
}

export interface ListenOptions extends SocketOptions {
  readonly address: SocketAddress;
  /** An IPv6 wildcard socket takes IPv4 too unless this is true. Default false. */
  readonly v6Only?: boolean;
  /** Default 1024. */
  readonly backlog?: number;
  readonly reusePort?: boolean;
  /** IP_TRANSPARENT: `required` fails when it cannot be set, `try` goes on without. */
  readonly transparent?: "required" | "try";
  /** Set on every accepted connection. */
  readonly keepAlive?: KeepAlive;
}

export interface ListenerHandler {
  /** The connection is TCP_NODELAY. Must call `connection.setHandler` before it returns, or `connection.reset()`. */
  onAccept(connection: Connection): void;
  /** accept failed with -errno (EMFILE, ENFILE, ENOBUFS, ENOMEM …). The reactor backs off (100 ms) and goes on. */
  onAcceptError(error: number): void;
}

export interface Listener {
  readonly address: SocketAddress;
  /** Whether IP_TRANSPARENT is set. */
  readonly transparent: boolean;
  /** Stops accepting for now: connections wait in the kernel's backlog. */
  pause(): void;
  resume(): void;
  /** Idempotent. */
  close(): void;
}

export interface ConnectOptions extends SocketOptions {
  readonly address: SocketAddress;
  /** Bind to this (foreign) address first: IP_TRANSPARENT + IP_FREEBIND + IP_BIND_ADDRESS_NO_PORT. */
  readonly source?: string;
  /**
   * With `source`: come from this port of it, unless it is taken or may not be used; then from one that the kernel chooses.
   * Default: the kernel chooses.
   */
  readonly sourcePort?: number;
  /** What to do when the source cannot be bound: fail with its errno, or go on without. Default "fail". */
  readonly sourceFallback?: "fail" | "without";
  readonly keepAlive?: KeepAlive;
  /** Without an answer connecting fails with -ETIMEDOUT after this time, ms. Default: the kernel's two minutes. */
  readonly timeoutMs?: number;
}

export interface ConnectionHandler {
  /** connect() is over: 0 or -errno. After an error the connection is closed already. Not called for accepted connections. */
  onConnected(connection: Connection, error: number): void;
  /**
   * Bytes, EOF or an error can be read. Called again only after `read` has returned AGAIN or `resumeReading` was called;
   * after EOF, once more if the peer resets the connection: `read` returns -104 (ECONNRESET) then instead of 0.
   */
  onReadable(connection: Connection): void;
  /** Called once there is room again after `write` returned less than it was given (or AGAIN). */
  onWritable(connection: Connection): void;
}

/**
 * A TCP connection. Every call on a closed connection returns -EBADF (9); a late event never reaches a closed one.
 * `read` returns AGAIN once the connection's share of this turn is used up: the reactor calls `onReadable` again in the
 * next turn, so that a busy connection cannot starve the others.
 */
export interface Connection {
  /** Unique in this reactor, never reused. */
  readonly id: number;
  readonly closed: boolean;
  /** Canonical addresses; an empty ip and port 0 when the kernel no longer knows. */
  readonly peer: SocketAddress;
  readonly local: SocketAddress;
  /** SO_ORIGINAL_DST (v4, then v6), else the local address. Cached after the first call. */
  originalDestination(): SocketAddress;
  setHandler(handler: ConnectionHandler): void;
  /** Bytes read into buffer[offset, offset+length), 0 at EOF, AGAIN, or -errno (-104 ECONNRESET …). Throws RangeError on a bad range or a length of 0. */
  read(buffer: NativeBuffer, offset: number, length: number): number;
  /** Bytes accepted (maybe fewer than given), AGAIN, or -errno (-32 EPIPE, -104 ECONNRESET …). Never raises SIGPIPE. */
  write(buffer: NativeBuffer, offset: number, length: number): number;
  /** Calls `onReadable` in the next turn, for a handler that stopped reading before AGAIN because it had no room. */
  resumeReading(): void;
  /** Sends FIN after what was written. Idempotent. */
  shutdownWrite(): void;
  /** Sends RST and closes (SO_LINGER 0). Idempotent. */
  reset(): void;
  /** Closes; the kernel sends what it has accepted. Idempotent. */
  close(): void;
}

export interface DatagramOptions extends SocketOptions {
  readonly address: SocketAddress;
  readonly reusePort?: boolean;
}

export interface DatagramHandler {
  /** Datagrams can be received. Called again only after `receive` has returned AGAIN. */
  onReadable(socket: DatagramSocket): void;
}

export interface DatagramSocket {
  readonly closed: boolean;
  readonly address: SocketAddress;
  /** Length of one datagram (0 is a datagram too), AGAIN, or -errno (-90 EMSGSIZE: it did not fit and is gone). The sender is in `sender` until the next call. */
  receive(buffer: NativeBuffer, offset: number, length: number): number;
  readonly sender: SocketAddress;
  /** Bytes sent, AGAIN (dropped: the caller may retry), or -errno. */
  send(buffer: NativeBuffer, offset: number, length: number, to: SocketAddress): number;
  /** Takes no more: others at the address (`reusePort`) get what comes. What has arrived can be received, and answered. Idempotent. */
  retire(): void;
  close(): void;
}
