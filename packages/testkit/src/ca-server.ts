import { type Identity, type Log, parseIdentity, silentLog } from "@tulle/base";
import {
  type Authentication,
  type Authorization,
  type Caller,
  type CallerCredentials,
  CaService,
  CertificateAuthority,
  type GrpcServer,
  type GrpcServerOptions,
  PrivateKey,
  startGrpcServer,
} from "@tulle/pki";

export interface TestCaServerOptions {
  readonly authority?: CertificateAuthority;
  /** Token → the caller's SPIFFE URI. Default: `node-token` is the node proxy istio-system/ztunnel. */
  readonly tokens?: Readonly<Record<string, string>>;
  /** Which identities the node proxy may have. Default: all but those of the namespace `forbidden`. */
  readonly mayHave?: (identity: Identity) => boolean;
  readonly log?: Log;
  /** More services on the same port, as a control plane has them. */
  readonly routes?: GrpcServerOptions["routes"];
  /** DNS names of the server's certificate. Default `localhost`. */
  readonly dnsNames?: readonly string[];
}

export interface TestCaServer extends AsyncDisposable {
  readonly authority: CertificateAuthority;
  /** `https://localhost:port` */
  readonly address: string;
  readonly port: number;
  readonly server: GrpcServer;
  /** Callers that were let in, in order. */
  readonly callers: CallerCredentials[];
  close(): Promise<void>;
}

const NODE_TOKENS: Readonly<Record<string, string>> = {
  "node-token": "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
};

/** A real CA service over real gRPC and TLS on a loopback port. Its certificate comes from its own authority. */
export async function startTestCaServer(options: TestCaServerOptions = {}): Promise<TestCaServer> {
  const authority = options.authority ?? (await CertificateAuthority.selfSigned());
  const { tokens = NODE_TOKENS, mayHave = ({ namespace }) => namespace !== "forbidden" } = options;
  const callers: CallerCredentials[] = [];
  const service = new CaService({
    authority: () => authority,
    log: options.log ?? silentLog,
    policy: {
      authenticate: async (credentials): Promise<Authentication> => {
        const identity = parseIdentity(tokens[credentials.token ?? ""] ?? "");
        if (identity === undefined) return { ok: false, reason: "the token is not one of the test's" };
        callers.push(credentials);
        return { ok: true, caller: { identity, via: "token" } };
      },
      authorize: async (caller: Caller, identity): Promise<Authorization> => {
        if (caller.identity.serviceAccount !== "ztunnel")
          return { ok: false, reason: "the caller is not a node proxy" };
        if (mayHave(identity)) return { ok: true };
        return { ok: false, reason: `no pod of ${identity.namespace} runs on the caller's node` };
      },
    },
  });
  const key = PrivateKey.generate();
  const serving = await authority.issue({
    spki: key.publicKey.export({ type: "spki", format: "der" }),
    dnsNames: options.dnsNames ?? ["localhost"],
  });
  const server = await startGrpcServer({
    certificateChainPem: serving.chain.join(""),
    privateKeyPem: key.exportPem(),
    clientRootsPem: authority.rootsPem,
    routes: (router) => {
      service.register(router);
      options.routes?.(router);
    },
  });
  return {
    authority,
    address: `https://localhost:${server.port}`,
    port: server.port,
    server,
    callers,
    close: () => server.close(),
    [Symbol.asyncDispose]: () => server.close(),
  };
}
