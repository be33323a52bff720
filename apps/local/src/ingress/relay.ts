import { connect, Server, Socket } from "node:net";

/**
 * The program of the ingress pod: takes over listening sockets of the host (they come through its message channel) and
 * carries each connection to a service. Its own side is the mesh: what it dials is captured like any pod's traffic.
 */

/**
 * `publish` comes with a listening socket, `connection` with a connection that arrived before the listener was handed over;
 * `withdraw` ends a listener, its connections go on. `listener` is the port on the host.
 */
export interface RelayMessage {
  readonly type: "publish" | "connection" | "withdraw";
  readonly listener: number;
  readonly host: string;
  readonly port: number;
}

/** Enough for a browser and a load test; one more is closed at once. */
const MAX_CONNECTIONS = 1000;

const listeners = new Map<number, Server>();

process.on("message", (message: RelayMessage, handle: Server | Socket | undefined) => {
  const { type, listener, host, port } = message;
  if (handle instanceof Socket) carry(handle, host, port);
  else if (handle instanceof Server) publish(handle, message);
  else if (type === "withdraw") {
    listeners.get(listener)?.close();
    listeners.delete(listener);
  }
});
/** Without the process that owns the host's ports there is nothing to do. */
process.on("disconnect", () => process.exit(0));
process.on("SIGTERM", () => process.exit(0));

function publish(server: Server, { listener, host, port }: RelayMessage): void {
  listeners.get(listener)?.close();
  listeners.set(listener, server);
  server.maxConnections = MAX_CONNECTIONS;
  server.on("connection", (client: Socket) => carry(client, host, port));
  server.on("error", (error) => console.error(`listener on port ${listener}: ${error.message}`));
  console.log(`carries connections from port ${listener} of the machine to ${host}:${port}`);
}

function carry(client: Socket, host: string, port: number): void {
  const upstream = connect({ host, port, allowHalfOpen: true });
  client.allowHalfOpen = true;
  client.setNoDelay(true);
  upstream.setNoDelay(true);
  const end = (error?: Error) => {
    if (error !== undefined) console.error(`connection to ${host}:${port}: ${error.message}`);
    client.destroy();
    upstream.destroy();
  };
  client.on("error", end);
  upstream.on("error", end);
  client.on("close", () => upstream.destroy());
  upstream.on("close", () => client.destroySoon());
  client.pipe(upstream);
  upstream.pipe(client);
}
