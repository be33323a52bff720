import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "@tulle/lab";
import { nodeAddress, nodeName, PLAN } from "./settings.ts";

/** A cluster lives for hours. */
const DAYS = "30";
const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** Who talks to the API server with a certificate, and as whom. */
const CLIENTS: Readonly<Record<string, string>> = {
  admin: "/O=system:masters/CN=admin",
  "kube-controller-manager": "/CN=system:kube-controller-manager",
  "kube-scheduler": "/CN=system:kube-scheduler",
  "kube-proxy": "/CN=system:kube-proxy",
};

/** Keys, certificates and kubeconfig files of a cluster: `NAME.key`, `NAME.crt`, `NAME.conf` in one folder. */
export async function makePki(folder: string, nodes: number): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const ca = ["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-subj", "/CN=tulle-cluster-ca"];
  await openssl(folder, ["req", "-x509", ...KEY, "-days", DAYS, ...ca, "-keyout", "ca.key", "-out", "ca.crt"]);
  const { controlPlane, apiServer } = PLAN;
  const addresses = [controlPlane.v4, controlPlane.v6, apiServer.v4, apiServer.v6, "127.0.0.1"];
  const names = ["", ".default", ".default.svc", ".default.svc.cluster.local"].map((suffix) => `kubernetes${suffix}`);
  const nodeNumbers = Array.from({ length: nodes }, (_, index) => index + 1);
  await Promise.all([
    openssl(folder, ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-accounts.key"]),
    certificate(folder, "apiserver", "/CN=kube-apiserver", names, addresses),
    ...Object.entries(CLIENTS).map(([name, subject]) => certificate(folder, name, subject)),
    ...nodeNumbers.map((index) => {
      const { v4, v6 } = nodeAddress(index);
      const name = nodeName(index);
      return certificate(folder, name, `/O=system:nodes/CN=system:node:${name}`, [name], [v4, v6]);
    }),
  ]);
  for (const name of [...Object.keys(CLIENTS), ...nodeNumbers.map(nodeName)]) {
    writeFileSync(
      join(folder, `${name}.conf`),
      kubeconfig(folder, name, `https://${controlPlane.v4}:${PLAN.apiPort}`),
      {
        mode: 0o600,
      },
    );
  }
}

/** A kubeconfig file that needs no other file. JSON is YAML. */
export function kubeconfig(folder: string, user: string, server: string): string {
  const data = (file: string) => readFileSync(join(folder, file)).toString("base64");
  const name = "tulle-cluster";
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": name,
    clusters: [{ name, cluster: { server, "certificate-authority-data": data("ca.crt") } }],
    users: [
      {
        name: user,
        user: { "client-certificate-data": data(`${user}.crt`), "client-key-data": data(`${user}.key`) },
      },
    ],
    contexts: [{ name, context: { cluster: name, user } }],
  });
}

async function certificate(
  folder: string,
  name: string,
  subject: string,
  names: readonly string[] = [],
  addresses: readonly string[] = [],
): Promise<void> {
  const alternatives = [...names.map((dns) => `DNS:${dns}`), ...addresses.map((ip) => `IP:${ip}`)];
  const extensions = [
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=serverAuth,clientAuth",
    ...(alternatives.length === 0 ? [] : [`subjectAltName=${alternatives.join(",")}`]),
  ];
  writeFileSync(join(folder, `${name}.ext`), `${extensions.join("\n")}\n`);
  await openssl(folder, ["req", "-new", ...KEY, "-subj", subject, "-keyout", `${name}.key`, "-out", `${name}.csr`]);
  const signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", `0x${randomBytes(15).toString("hex")}`];
  const what = ["-in", `${name}.csr`, "-extfile", `${name}.ext`, "-days", DAYS, "-out", `${name}.crt`];
  await openssl(folder, ["x509", "-req", ...signer, ...what]);
}

/** Names of files are those of the folder. */
async function openssl(folder: string, args: readonly string[]): Promise<void> {
  const files = new Set(["-keyout", "-out", "-in", "-CA", "-CAkey", "-extfile"]);
  const words = args.map((word, index) => (files.has(args[index - 1] ?? "") ? join(folder, word) : word));
  await run("openssl", words);
}
