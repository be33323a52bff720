import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { connectFrom, type LabProcess, run, until } from "@tulle/lab";
import { PACKET_MARK, READINESS_PORT } from "@tulle/base";
import type { Contender, Place, Side } from "../contender.ts";
import { captureBothSides } from "./capture.ts";

const MAIN = join(import.meta.dirname, "../../apps/ztunnel/src/main.ts");

const WARM = join(import.meta.dirname, "../../scripts/warm-compile-cache.ts");

/** ztunnel on both sides in dedicated mode, one data thread each, certificates and configuration from files. */
export const tulle: Contender = {
  name: "tulle",
  title: "Tulle",
  wire: "encrypted tunnel",
  async start(place) {
    await captureBothSides(place);
    // As `npm start` does: type stripping costs memory that a warm cache saves.
    await run(process.execPath, [WARM], { timeoutMs: 60_000 });
    const configuration = join(place.folder, "mesh.yaml");
    writeFileSync(configuration, localConfiguration(place));
    const processes: LabProcess[] = [];
    const stop = async () => {
      await Promise.all(processes.map((process) => process.stop()));
    };
    try {
      for (const side of [place.client, place.server]) processes.push(await start(side, configuration));
      for (const [index, side] of [place.client, place.server].entries()) await ready(side, processes[index]);
    } catch (error) {
      await stop();
      throw error;
    }
    return { pids: processes.map(({ pid }) => pid), stop };
  },
};

function start(side: Side, configuration: string): Promise<LabProcess> {
  return side.namespace.start(process.execPath, [MAIN, "proxy", "ztunnel"], {
    environment: {
      PROXY_MODE: "dedicated",
      PROXY_WORKLOAD_INFO: side.workload,
      LOCAL_XDS_PATH: configuration,
      XDS_ADDRESS: "",
      TULLE_CERTIFICATES_DIR: side.certificates,
      ZTUNNEL_WORKER_THREADS: "1",
      PACKET_MARK: String(PACKET_MARK),
      ISTIO_META_DNS_CAPTURE: "false",
      RUST_LOG: "warn",
    },
  });
}

async function ready({ namespace }: Side, ztunnel: LabProcess | undefined): Promise<void> {
  const get = "GET /healthz/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  const answer = async () => {
    if (ztunnel?.running !== true) return "ended";
    const socket = await connectFrom(namespace.path, { ip: "127.0.0.1", port: READINESS_PORT });
    let text = "";
    socket.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
    });
    socket.end(get);
    await new Promise((resolve) => socket.once("close", resolve));
    return text.startsWith("HTTP/1.1 200") ? "ready" : undefined;
  };
  const result = await until(answer, { what: "ztunnel to be ready", timeoutMs: 15_000 });
  if (result !== "ready") throw new Error(`ztunnel ended:\n${ztunnel?.output}`);
}

/** The file format of LOCAL_XDS_PATH (spec: l4-ztunnel §5.8). */
function localConfiguration({ client, server }: Place): string {
  const workload = ({ ip, workload }: Side) => {
    const [namespace, name, serviceAccount] = workload.split("/");
    return { uid: `bench//Pod/${namespace}/${name}`, namespace, name, serviceAccount, workloadIps: [ip], services: {} };
  };
  const workloads = [client, server].map((side) => ({
    ...workload(side),
    trustDomain: "cluster.local",
    protocol: "HBONE",
  }));
  // JSON is YAML.
  return JSON.stringify({ workloads, policies: [], services: [] }, undefined, 2);
}
