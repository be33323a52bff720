import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, security, wds } from "@tulle/api";
import { type Log, silentLog } from "@tulle/base";
import { credentialsOf, type GrpcChannel, type GrpcChannelOptions, openGrpcChannel } from "@tulle/pki";
import {
  ADDRESSES,
  AdsServer,
  type AdsServerOptions,
  AUTHORIZATIONS,
  addressResource,
  authorizationResource,
  type Nack,
} from "@tulle/xds";
import { startTestCaServer, type TestCaServer, type TestCaServerOptions } from "./ca-server.ts";

export type WorkloadInit = MessageInitShape<typeof wds.WorkloadSchema>;
export type ServiceInit = MessageInitShape<typeof wds.ServiceSchema>;
export type PolicyInit = MessageInitShape<typeof security.AuthorizationSchema>;

export interface TestControlPlaneOptions extends TestCaServerOptions {
  /** Tokens that may open a discovery stream. Default `node-token`. */
  readonly streamTokens?: readonly string[];
  readonly ads?: Partial<AdsServerOptions>;
}

/** A control plane on a loopback port: certificate authority and delta ADS, with real TLS. */
export class TestControlPlane implements AsyncDisposable {
  readonly ca: TestCaServer;
  readonly ads: AdsServer;
  readonly nacks: readonly Nack[];

  constructor(ca: TestCaServer, ads: AdsServer, nacks: readonly Nack[]) {
    this.ca = ca;
    this.ads = ads;
    this.nacks = nacks;
  }

  /** `https://localhost:port` */
  get address(): string {
    return this.ca.address;
  }

  /** A client's connection, trusted and with a good token unless the test wants it otherwise. */
  connect(options: Partial<GrpcChannelOptions> = {}): Promise<GrpcChannel> {
    return openGrpcChannel({
      address: this.address,
      roots: { kind: "pem", pem: this.ca.authority.rootsPem },
      token: { kind: "literal", token: "node-token" },
      ...options,
    });
  }

  putWorkloads(...workloads: readonly WorkloadInit[]): void {
    const changed = workloads.map((value) => addressResource(addressOf({ case: "workload", value })));
    this.ads.update(ADDRESS_TYPE, { changed });
  }

  putServices(...services: readonly ServiceInit[]): void {
    const changed = services.map((value) => addressResource(addressOf({ case: "service", value })));
    this.ads.update(ADDRESS_TYPE, { changed });
  }

  /** By uid or `<namespace>/<hostname>`. */
  removeAddresses(...removed: readonly string[]): void {
    this.ads.update(ADDRESS_TYPE, { removed });
  }

  putPolicies(...policies: readonly PolicyInit[]): void {
    const changed = policies.map((policy) => authorizationResource(create(security.AuthorizationSchema, policy)));
    this.ads.update(AUTHORIZATION_TYPE, { changed });
  }

  /** By `<namespace>/<name>`. */
  removePolicies(...removed: readonly string[]): void {
    this.ads.update(AUTHORIZATION_TYPE, { removed });
  }

  async close(): Promise<void> {
    this.ads.close();
    await this.ca.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export async function startTestControlPlane(options: TestControlPlaneOptions = {}): Promise<TestControlPlane> {
  const { streamTokens = ["node-token"] } = options;
  const log: Log = options.log ?? silentLog;
  const nacks: Nack[] = [];
  const ads = new AdsServer({
    types: [ADDRESSES, AUTHORIZATIONS],
    log,
    authenticate: async (context) => {
      const { token = "" } = credentialsOf(context);
      if (streamTokens.includes(token)) return { ok: true, principal: token };
      return { ok: false, reason: "the token is not one of the test's" };
    },
    onNack: (_, nack) => nacks.push(nack),
    ...options.ads,
  });
  const ca = await startTestCaServer({ ...options, routes: (router) => ads.register(router) });
  return new TestControlPlane(ca, ads, nacks);
}

function addressOf(type: MessageInitShape<typeof wds.AddressSchema>["type"]): wds.Address {
  return create(wds.AddressSchema, type === undefined ? {} : { type });
}
