import http2 from "node:http2";
import type { Socket } from "node:net";
import tls from "node:tls";
import { connectFrom, listenIn } from "@tulle/lab";
import type { WorkloadCertificate } from "@tulle/pki";

/** HBONE with other code than ours (node:tls, node:http2): what a peer that we did not write says and sees. */

export interface ForeignClientOptions {
  /** Where the client stands. */
  readonly namespacePath: string;
  /** Address of the pod. */
  readonly ip: string;
  /** Undefined: none is presented. */
  readonly certificate: WorkloadCertificate | undefined;
  readonly alpn?: readonly string[];
}

/** Answer to a CONNECT: a status, or the error that ended the stream or the connection before one. */
export type Outcome = number | string;

const HBONE_PORT = 15_008;
const ANSWER_TIMEOUT_MS = 15_000;

/** A TLS connection to a pod's 15008, as soon as the handshake is over on this side. */
export async function foreignTls(options: ForeignClientOptions): Promise<tls.TLSSocket> {
  const raw = await connectFrom(options.namespacePath, { ip: options.ip, port: HBONE_PORT });
  const { certificate } = options;
  const socket = tls.connect({
    socket: raw,
    ALPNProtocols: [...(options.alpn ?? ["h2"])],
    minVersion: "TLSv1.3",
    // The client is the attacker or the stranger here: whom it talks to is not what is tested.
    rejectUnauthorized: false,
    ...(certificate && { cert: certificate.certificateChainPem, key: certificate.exportPrivateKeyPem() }),
  });
  socket.on("error", () => raw.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once("secureConnect", resolve);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed in the handshake")));
  });
  return socket;
}

export class ForeignClient implements Disposable {
  readonly session: http2.ClientHttp2Session;

  private constructor(session: http2.ClientHttp2Session) {
    this.session = session;
    session.on("error", () => {});
  }

  static async connect(options: ForeignClientOptions): Promise<ForeignClient> {
    const socket = await foreignTls(options);
    return new ForeignClient(http2.connect("https://foreign", { createConnection: () => socket }));
  }

  /** Sends a request and returns its status, or how it failed. The stream is closed afterwards. */
  status(headers: http2.OutgoingHttpHeaders): Promise<Outcome> {
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const stream = this.session.request(headers, { endStream: false });
    stream.setTimeout(ANSWER_TIMEOUT_MS, () => resolve("no answer"));
    stream.on("response", (response) => {
      resolve(response[":status"] ?? "no status");
      stream.close();
    });
    stream.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    stream.on("close", () => resolve(`closed with ${stream.rstCode}`));
    return promise;
  }

  connect(authority: string): Promise<Outcome> {
    return this.status({ ":method": "CONNECT", ":authority": authority });
  }

  /** A tunnel that was answered with 200; throws otherwise. */
  async tunnel(authority: string): Promise<http2.ClientHttp2Stream> {
    const stream = this.session.request({ ":method": "CONNECT", ":authority": authority }, { endStream: false });
    await new Promise<void>((resolve, reject) => {
      stream.once("response", ({ ":status": status }) => {
        if (status === 200) resolve();
        else reject(new Error(`http status: ${status}`));
      });
      stream.once("error", reject);
      stream.once("close", () => reject(new Error("closed")));
    });
    return stream;
  }

  [Symbol.dispose](): void {
    this.session.destroy();
  }
}

/** Connects and asks; a handshake that fails at once or after the fact is an outcome too. */
export async function connectOutcome(options: ForeignClientOptions, authority: string): Promise<Outcome> {
  try {
    using client = await ForeignClient.connect(options);
    return await client.connect(authority);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

export interface ForeignServer extends AsyncDisposable {
  /** TCP connections that arrived. */
  readonly connections: number;
  /** `:authority` of every CONNECT that arrived. */
  readonly authorities: readonly string[];
  /** Application bytes that arrived. */
  readonly bytes: number;
}

/** An HBONE server on a pod's 15008 that accepts every CONNECT and echoes, with whatever certificate it is given. */
export async function foreignServer(options: {
  readonly namespacePath: string;
  readonly ip: string;
  readonly certificate: WorkloadCertificate;
  /** Default: echo. Called instead, for a server that misbehaves. */
  readonly onStream?: (stream: http2.ServerHttp2Stream) => void;
}): Promise<ForeignServer> {
  const { certificate, namespacePath, ip } = options;
  const seen = { connections: 0, authorities: [] as string[], bytes: 0 };
  const server = http2.createSecureServer({
    cert: certificate.certificateChainPem,
    key: certificate.exportPrivateKeyPem(),
    ca: certificate.rootsPem,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.3",
  });
  const sessions = new Set<http2.Http2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => session.destroy()).on("close", () => sessions.delete(session));
  });
  server.on("tlsClientError", () => {});
  server.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    stream.on("error", () => stream.destroy());
    seen.authorities.push(headers[":authority"] ?? "");
    if (options.onStream !== undefined) return options.onStream(stream);
    stream.on("data", (bytes: Buffer) => {
      seen.bytes += bytes.length;
      stream.write(bytes);
    });
    stream.on("end", () => stream.end());
    stream.respond({ ":status": 200 });
  });
  const listener = await listenIn(namespacePath, { ip, port: HBONE_PORT }, (socket: Socket) => {
    seen.connections++;
    server.emit("connection", socket);
  });
  return {
    get connections() {
      return seen.connections;
    },
    get authorities() {
      return seen.authorities;
    },
    get bytes() {
      return seen.bytes;
    },
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      await listener[Symbol.asyncDispose]();
    },
  };
}
