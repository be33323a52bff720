import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { INBOUND_HBONE_PORT } from "@tulle/base";
import { connectFrom, type Lab, type LabNamespace, type LabProcess, until } from "@tulle/lab";
import { type CertificateAuthority, PrivateKey, spkiOf } from "@tulle/pki";
import type { Contender, Place, RunningContender, Side } from "./contender.ts";

/** One contender in two namespaces of its own, with servers on one side, ready to be measured. */
export interface Stage {
  readonly contender: Contender;
  readonly place: Place;
  readonly running: RunningContender;
}

export const IPERF_PORT = 5201;
export const HTTP_PORT = 80;
const REQUEST_LINE = "GET / HTTP/1.1";
const CLIENT_IP = "10.77.0.1";
const SERVER_IP = "10.77.0.2";
/** Plenty of short connections: ports and tracking entries of closed ones must come back in time. */
const SYSCTLS: readonly (readonly [name: string, value: string])[] = [
  ["net.ipv4.ip_local_port_range", "16384 65535"],
  ["net.ipv4.tcp_tw_reuse", "1"],
  ["net.ipv4.tcp_max_tw_buckets", "10000"],
  ["net.core.somaxconn", "4096"],
  ["net.netfilter.nf_conntrack_tcp_timeout_time_wait", "3"],
  ["net.netfilter.nf_conntrack_tcp_timeout_close", "3"],
];

/** Builds the namespaces and starts the servers and the contender. Throws what the contender's start throws. */
export async function buildStage(
  lab: Lab,
  contender: Contender,
  authority: CertificateAuthority,
  folder: string,
): Promise<{ readonly stage: Stage; readonly close: () => Promise<void> }> {
  await using undo = new AsyncDisposableStack();
  const own = join(folder, contender.name);
  const client = await side(lab, authority, own, { label: "client", ip: CLIENT_IP });
  const server = await side(lab, authority, own, { label: "server", ip: SERVER_IP });
  await lab.link(
    { namespace: client.namespace, device: "eth0", addresses: [`${CLIENT_IP}/24`] },
    { namespace: server.namespace, device: "eth0", addresses: [`${SERVER_IP}/24`] },
  );
  for (const { namespace } of [client, server]) {
    for (const [name, value] of SYSCTLS) await namespace.sysctl(name, value);
  }
  for (const process of await startServers(server.namespace, own)) undo.defer(async () => void (await process.stop()));

  const place: Place = { client, server, folder: own };
  const running = await contender.start(place);
  undo.defer(() => running.stop());
  await passes(place);
  await looksAsPromised(place, contender.wire);
  const kept = undo.move();
  return { stage: { contender, place, running }, close: () => kept.disposeAsync() };
}

async function side(
  lab: Lab,
  authority: CertificateAuthority,
  folder: string,
  { label, ip }: { readonly label: string; readonly ip: string },
): Promise<Side> {
  const certificates = join(folder, label);
  mkdirSync(certificates, { recursive: true, mode: 0o700 });
  const key = PrivateKey.generate();
  const issued = await authority.issue({
    spki: spkiOf(key),
    uris: [`spiffe://cluster.local/ns/bench/sa/${label}`],
  });
  const chain = issued.chain.join("\n");
  const files = {
    "cert-chain.pem": chain,
    "key.pem": key.exportPem(),
    "root-cert.pem": issued.rootsPem,
    "workload.pem": `${key.exportPem()}\n${chain}`,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(certificates, name), text, { mode: 0o600 });
  return { namespace: await lab.namespace(label), ip, certificates, workload: `bench/${label}/${label}` };
}

async function startServers(namespace: LabNamespace, folder: string): Promise<LabProcess[]> {
  const configuration = join(folder, "nginx.conf");
  rmSync(join(folder, "nginx.pid"), { force: true });
  writeFileSync(configuration, nginxConfiguration(folder));
  return [
    await namespace.start("nginx", ["-p", folder, "-c", configuration, "-e", join(folder, "nginx.log")]),
    await namespace.start("iperf3", ["--server", "--port", String(IPERF_PORT)]),
  ];
}

/** Two workers for two cores; a tiny answer from memory, so that the path is what is measured. */
function nginxConfiguration(folder: string): string {
  return `daemon off;
user root;
worker_processes 2;
pid ${folder}/nginx.pid;
error_log ${folder}/nginx.log;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  server {
    listen ${HTTP_PORT} reuseport backlog=4096;
    location / { return 200 "hello\\n"; }
  }
}
`;
}

/** Waits until both servers answer through the contender. */
async function passes({ client, server }: Place): Promise<void> {
  for (const port of [HTTP_PORT, IPERF_PORT]) {
    const open = async () => {
      const socket = await connectFrom(client.namespace.path, { ip: server.ip, port });
      // A proxy accepts before it knows whether the other side will: only an answer shows that the path works.
      const answered = port !== HTTP_PORT || (await answers(socket));
      socket.destroy();
      return answered;
    };
    await until(open, { what: `port ${port} to answer`, timeoutMs: 15_000 });
  }
}

/** A request between the two sides must look on the wire as the contender says: a figure of another path says nothing. */
async function looksAsPromised({ client, server }: Place, wire: Contender["wire"]): Promise<void> {
  await using capture = await server.namespace.capture("eth0", "tcp");
  const socket = await connectFrom(client.namespace.path, { ip: server.ip, port: HTTP_PORT });
  await answers(socket);
  socket.destroy();
  await until(() => capture.packets.length >= 2, { what: "packets between the two sides" });
  const packets = await capture.stop();
  const readable = packets.some(({ payload }) => Buffer.from(payload).includes(REQUEST_LINE));
  const expected = wire === "direct" ? HTTP_PORT : INBOUND_HBONE_PORT;
  const stray = packets.find(({ source, destination }) => source.port !== expected && destination.port !== expected);
  if (stray === undefined && readable === (wire !== "encrypted tunnel")) return;
  const seen = stray === undefined ? "" : `, saw ports ${stray.source.port} and ${stray.destination.port}`;
  throw new Error(`expected ${wire} on port ${expected}${seen}, request ${readable ? "readable" : "not readable"}`);
}

function answers(socket: Awaited<ReturnType<typeof connectFrom>>): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once("data", () => resolve(true)).once("close", () => resolve(false));
    socket.write(`${REQUEST_LINE}\r\nHost: bench\r\n\r\n`);
  });
}
