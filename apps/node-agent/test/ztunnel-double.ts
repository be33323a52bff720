import type { Server, Socket } from "node:net";
import { PACKET_MARK, silentLog } from "@tulle/base";
import { connectFrom, datagramIn, listenIn } from "@tulle/lab";
import type { NetNamespace } from "@tulle/linux";
import { type PodInfo, StateManager, ZdsClient } from "@tulle/zds";

/** Stands in for ztunnel: the real ZDS client, and in each pod listeners that greet and echo. */
export class ZtunnelDouble implements AsyncDisposable {
  readonly #client: ZdsClient;
  readonly #state: StateManager<NetNamespace>;
  readonly #run: Promise<void>;
  readonly #pods = new Map<string, Listeners>();
  readonly log: string[] = [];
  /** Uids that it refuses. */
  readonly refusing = new Set<string>();

  constructor(path: string) {
    this.#state = new StateManager<NetNamespace>({
      runner: { start: (uid, info, namespace) => this.#start(uid, info, namespace), stop: (uid) => this.#stop(uid) },
      log: silentLog,
      retryMs: 200,
    });
    this.#client = new ZdsClient({ path, state: this.#state, log: silentLog });
    this.#run = this.#client.run().catch(() => undefined);
  }

  get ready(): boolean {
    return this.#state.ready;
  }

  serves(uid: string): boolean {
    return this.#pods.has(uid);
  }

  /** Closes a listener behind its own back, as a fault would. */
  async closeListener(uid: string, port: number): Promise<void> {
    await this.#pods.get(uid)?.close(port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#run;
    this.#state.close();
    for (const uid of this.#pods.keys()) await this.#stop(uid);
  }

  async #start(uid: string, _info: PodInfo, namespace: NetNamespace): Promise<void> {
    this.log.push(`start ${uid}`);
    if (this.refusing.has(uid)) throw new Error("refused by the test");
    this.#pods.set(uid, await Listeners.open(`/proc/${process.pid}/fd/${namespace.descriptor}`));
  }

  async #stop(uid: string): Promise<void> {
    this.log.push(`stop ${uid}`);
    await this.#pods.get(uid)?.closeAll();
    this.#pods.delete(uid);
  }
}

class Listeners {
  readonly #servers = new Map<number, Server & AsyncDisposable>();
  #closeDns: () => void = () => {};

  static async open(path: string): Promise<Listeners> {
    const listeners = new Listeners();
    const options = { mark: PACKET_MARK, transparent: true, reusePort: true };
    const serve = async (ip: string, port: number, onConnection: (socket: Socket) => void) => {
      listeners.#servers.set(port, await listenIn(path, { ip, port }, onConnection, options));
    };
    await serve("::", 15001, greet("outbound"));
    await serve("::", 15008, greet("hbone"));
    await serve("::", 15006, (socket) => void passOn(path, socket).catch(() => socket.destroy()));
    await serve("127.0.0.1", 15053, greet("dns"));
    const dns = await datagramIn(path, { ip: "127.0.0.1", port: 15053 }, options);
    listeners.#closeDns = () => dns.close();
    return listeners;
  }

  async close(port: number): Promise<void> {
    await this.#servers.get(port)?.[Symbol.asyncDispose]();
    this.#servers.delete(port);
  }

  async closeAll(): Promise<void> {
    this.#closeDns();
    for (const port of [...this.#servers.keys()]) await this.close(port);
  }
}

/** The application's own port in these tests. */
export const APP_PORT = 8080;

async function passOn(path: string, socket: Socket): Promise<void> {
  const clean = (ip: string | undefined) => (ip ?? "").replace(/^::ffff:/, "");
  const upstream = await connectFrom(
    path,
    { ip: clean(socket.localAddress), port: APP_PORT },
    { mark: PACKET_MARK, source: { ip: clean(socket.remoteAddress), port: 0 }, foreignSource: true },
  );
  socket.pipe(upstream).pipe(socket);
  upstream.on("close", () => socket.destroy());
  socket.on("close", () => upstream.destroy());
}

export function greet(name: string): (socket: Socket) => void {
  return (socket) => {
    socket.write(`${name}\n`);
    socket.on("data", (data) => socket.write(data));
    socket.on("end", () => socket.end());
  };
}
