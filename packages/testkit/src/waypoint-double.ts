import { readFileSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";

/**
 * Stands in for a waypoint, in a process of its own and with other code than ours (node:http2, node:tls): it terminates
 * HBONE, checks who is calling, and dials on, in HBONE to the workload behind it, as itself.
 *
 *   node waypoint-double.ts CONFIG.json
 *
 * Prints one line of JSON for each CONNECT, and "ready" when it listens.
 */
export interface WaypointDoubleConfig {
  readonly listen: { readonly ip: string; readonly port: number };
  readonly certificate: string;
  readonly key: string;
  readonly roots: string;
  /** SPIFFE URIs that may come through; others get 403. */
  readonly allowed: readonly string[];
  /** `:authority` → where it leads: over HBONE (15008 of the pod) with the authority that the pod expects. */
  readonly routes: Readonly<
    Record<string, { readonly ip: string; readonly authority: string; readonly identity: string }>
  >;
}

/** Stream and connection window: large enough that a test's bytes never wait for node's default of 64 KiB. */
const WINDOW = 4 * 1024 * 1024;

function main(config: WaypointDoubleConfig): void {
  const credentials = {
    cert: readFileSync(config.certificate),
    key: readFileSync(config.key),
    ca: readFileSync(config.roots),
    minVersion: "TLSv1.3" as const,
  };
  const server = http2.createSecureServer({
    ...credentials,
    ALPNProtocols: ["h2"],
    requestCert: true,
    rejectUnauthorized: true,
    settings: { initialWindowSize: WINDOW },
  });
  server.on("session", (session) => session.on("error", () => session.destroy()));
  server.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    stream.on("error", () => stream.destroy());
    const socket = stream.session?.socket as tls.TLSSocket;
    const identity = spiffeOf(socket.getPeerX509Certificate()?.subjectAltName ?? "");
    const authority = headers[":authority"] ?? "";
    const route = config.routes[authority];
    const allowed = config.allowed.includes(identity);
    console.log(
      JSON.stringify({ authority, identity, method: headers[":method"], allowed, remote: socket.remoteAddress }),
    );
    if (headers[":method"] !== "CONNECT") return stream.respond({ ":status": 400 }, { endStream: true });
    if (!allowed) return stream.respond({ ":status": 403 }, { endStream: true });
    if (route === undefined) return stream.respond({ ":status": 404 }, { endStream: true });
    dialOn(stream, route, credentials);
  });
  server.listen(config.listen.port, config.listen.ip, () => console.log("ready"));
}

function dialOn(
  downstream: http2.ServerHttp2Stream,
  route: WaypointDoubleConfig["routes"][string],
  credentials: tls.SecureContextOptions,
): void {
  const session = http2.connect(`https://${route.authority}`, {
    createConnection: () =>
      tls.connect({
        ...credentials,
        socket: net.connect({ host: route.ip, port: 15_008, allowHalfOpen: true }),
        ALPNProtocols: ["h2"],
        checkServerIdentity: (_host, certificate) =>
          spiffeOf(certificate.subjectaltname ?? "") === route.identity
            ? undefined
            : new Error(`expected ${route.identity}, got ${certificate.subjectaltname}`),
      }),
    settings: { initialWindowSize: WINDOW },
  });
  const fail = (error: Error) => {
    console.log(JSON.stringify({ error: error.message }));
    if (!downstream.headersSent) downstream.respond({ ":status": 503 }, { endStream: true });
    session.destroy();
  };
  session.on("error", fail);
  const upstream = session.request({ ":method": "CONNECT", ":authority": route.authority }, { endStream: false });
  upstream.on("error", fail);
  upstream.on("response", (headers) => {
    const status = headers[":status"] ?? 503;
    if (status !== 200) {
      downstream.respond({ ":status": status }, { endStream: true });
      return session.close();
    }
    downstream.respond({ ":status": 200 });
    downstream.pipe(upstream);
    upstream.pipe(downstream);
  });
  upstream.on("close", () => session.close());
}

function spiffeOf(subjectAltName: string): string {
  return /URI:(spiffe:\/\/[^,\s]+)/.exec(subjectAltName)?.[1] ?? "";
}

if (import.meta.main) {
  const path = process.argv[2];
  if (path === undefined) {
    console.error("usage: node waypoint-double.ts CONFIG.json");
    process.exit(2);
  }
  main(JSON.parse(readFileSync(path, "utf8")) as WaypointDoubleConfig);
}
