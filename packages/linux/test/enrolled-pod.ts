/** A pod, a client and a server in namespaces of their own, and what stands in for ztunnel in the pod. */
import { once } from "node:events";
import type { Server, Socket } from "node:net";
import {
  DNS_PORT,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  OUTBOUND_PORT,
  PACKET_MARK,
  type SocketAddress,
} from "@tulle/base";
import { connectFrom, datagramIn, type Lab, type LabHost, listenIn, type PeerOptions, until } from "@tulle/lab";

export const FAMILIES = ["v4", "v6"] as const;
export type Family = (typeof FAMILIES)[number];

/** The application's own port. */
export const APP_PORT = 8080;
/** The server's port, outside the pod. */
export const SERVER_PORT = 9090;

/** Of connecting, and of a greeting or an echo: long for a busy machine, and only spent when a test fails. */
const CONNECT_TIMEOUT_MS = 15_000;
const ANSWER_TIMEOUT_MS = 20_000;

/** Asks a greeter to reset the connection. */
const RESET = "reset\n";

/**
 * Greets each connection with the name of the listener that it reached, and echoes lines. A connection that arrives
 * through 15006 is passed on to the application, from the client's own address, as ztunnel does.
 */
export class FakeZtunnel implements AsyncDisposable {
  readonly #servers: (Server & AsyncDisposable)[] = [];
  readonly #stack = new AsyncDisposableStack();

  /** `borrowPort`: as the source of connections to the application, not only the client's address. */
  static async start(pod: LabHost, { borrowPort = true } = {}): Promise<FakeZtunnel> {
    const fake = new FakeZtunnel();
    const path = pod.namespace.path;
    const listen = async (ip: string, port: number, onConnection: (socket: Socket) => void) => {
      fake.#servers.push(await listenIn(path, { ip, port }, onConnection, { mark: PACKET_MARK, transparent: true }));
    };
    await listen("::", OUTBOUND_PORT, greeter("outbound"));
    await listen("::", INBOUND_HBONE_PORT, greeter("hbone"));
    await listen("::", INBOUND_PLAINTEXT_PORT, (socket) => {
      passOn(path, pod, socket, borrowPort).catch(() => socket.destroy());
    });
    for (const ip of ["127.0.0.1", "::1"]) {
      await listen(ip, DNS_PORT, greeter("dns"));
      const dns = await datagramIn(path, { ip, port: DNS_PORT }, { mark: PACKET_MARK });
      dns.on("message", (_, from) => dns.send("dns", from.port, from.address));
      fake.#stack.defer(() => {
        dns.close();
      });
    }
    return fake;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.#stack.disposeAsync();
  }
}

/** The application in the pod, or a server elsewhere: greets with its name and the address it sees, then echoes. */
export function startServer(host: LabHost, name: string, port: number): Promise<Server & AsyncDisposable> {
  return listenIn(host.namespace.path, { ip: "::", port }, greeter(name));
}

/** Connects and returns the greeting. `name` is what was reached: outbound, hbone, dns, app, server … */
export async function reach(from: LabHost, to: SocketAddress, options: PeerOptions = {}): Promise<Greeting> {
  const connection = await Client.connect(from, to, options);
  connection.socket.destroy();
  return connection.greeting;
}

export interface Greeting {
  readonly name: string;
  /** The client's address as the greeter sees it. */
  readonly peer: string;
}

/** A connection that has been greeted and can be shown to work. */
export class Client {
  readonly socket: Socket;
  readonly greeting: Greeting;
  #buffered = "";

  private constructor(socket: Socket, greeting: Greeting) {
    this.socket = socket;
    this.greeting = greeting;
    socket.setEncoding("utf8").on("data", (text: string) => {
      this.#buffered += text;
    });
  }

  static async connect(from: LabHost, to: SocketAddress, options: PeerOptions = {}): Promise<Client> {
    const socket = await connectFrom(from.namespace.path, to, { timeoutMs: CONNECT_TIMEOUT_MS, ...options });
    const [first] = (await once(socket, "data", { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) })) as [Buffer];
    const [name = "", peer = ""] = first.toString().trim().split(" ");
    return new Client(socket, { name, peer: peer.replace(/^::ffff:/, "") });
  }

  /** Sends a line and waits for its echo. */
  async echo(text: string): Promise<void> {
    this.socket.write(`${text}\n`);
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    while (!this.#buffered.includes(`${text}\n`)) await once(this.socket, "data", { signal });
  }

  /** Makes the server's side reset the connection. */
  async resetByPeer(): Promise<void> {
    this.socket.write(RESET);
    // Not `once`: it rejects with the very error that is hoped for.
    await until(() => this.socket.destroyed, { what: "the reset" });
  }
}

/** What a lookup of the pod got for an answer: "dns" when it was redirected. */
export async function askDns(pod: LabHost, server: SocketAddress, timeoutMs = ANSWER_TIMEOUT_MS): Promise<string> {
  const family = server.ip.includes(":") ? pod.v6 : pod.v4;
  const socket = await datagramIn(pod.namespace.path, { ip: family ?? "", port: 0 });
  try {
    const answer = once(socket, "message", { signal: AbortSignal.timeout(timeoutMs) });
    socket.send("who?", server.port, server.ip);
    return String((await answer)[0]);
  } finally {
    socket.close();
  }
}

export function addressOf(host: LabHost, family: Family): string {
  const ip = host[family];
  if (ip === undefined) throw new Error(`${host.namespace.label} has no IP${family} address: these tests need IPv6`);
  return ip;
}

export async function threeHosts(lab: Lab): Promise<{ pod: LabHost; client: LabHost; server: LabHost }> {
  return { pod: await lab.host("pod"), client: await lab.host("client"), server: await lab.host("server") };
}

function greeter(name: string): (socket: Socket) => void {
  return (socket) => {
    socket.write(`${name} ${socket.remoteAddress}\n`);
    socket.on("data", (data) => (String(data) === RESET ? socket.resetAndDestroy() : socket.write(data)));
    socket.on("end", () => socket.end());
  };
}

async function passOn(path: string, pod: LabHost, socket: Socket, borrowPort: boolean): Promise<void> {
  const client = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  const own = client.includes(":") ? pod.v6 : pod.v4;
  const upstream = await connectFrom(
    path,
    { ip: own ?? "", port: APP_PORT },
    { mark: PACKET_MARK, source: { ip: client, port: borrowPort ? (socket.remotePort ?? 0) : 0 }, foreignSource: true },
  );
  socket.pipe(upstream).pipe(socket);
  upstream.on("close", () => socket.destroy());
  socket.on("close", () => upstream.destroy());
}
