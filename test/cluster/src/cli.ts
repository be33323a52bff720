import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { artifactFolder, COMPONENTS } from "./artifacts.ts";
import { build } from "./build.ts";
import type { Cluster } from "./cluster.ts";
import { existingCluster } from "./clusters.ts";
import { nodeName } from "./settings.ts";

const USAGE = `usage: npm run cluster -- COMMAND
  up                      bring up a Kubernetes cluster (building its parts if they are not in the cache)
  down                    end it and remove everything of it
  status                  nodes and pods
  exec [-n N] -- COMMAND  run a command in the cluster's network, or on node N
  shell [N]               a shell there
  node stop|start N       power failure and boot of a node
  apiserver stop|start    kill the API server; start it again
  load IMAGE.tar          import an image into every node
  cache                   the files of the cache, and whether they are there
TULLE_CLUSTER_NAME (default tulle) and TULLE_CLUSTER_NODES (default 2) choose the cluster.`;

async function main(args: readonly string[]): Promise<number> {
  const cluster = existingCluster();
  const [command, ...rest] = args;
  switch (command) {
    case "up":
      return up(cluster);
    case "down":
      await cluster.down();
      return 0;
    case "status":
      process.stdout.write(await cluster.kubectl(["get", "nodes,pods", "-A", "-o", "wide"]));
      return 0;
    case "exec":
      return exec(cluster, rest);
    case "shell":
      return foreground(cluster, [process.env.SHELL ?? "bash"], rest[0]);
    case "node":
      return node(cluster, rest);
    case "apiserver":
      if (rest[0] === "stop") await cluster.stopApiServer();
      else if (rest[0] === "start") await cluster.startApiServer();
      else return usage();
      return 0;
    case "cache":
      for (const component of COMPONENTS) {
        const files = component.files.map((file) => join(artifactFolder(component), file));
        for (const file of files) process.stdout.write(`${existsSync(file) ? "there  " : "missing"} ${file}\n`);
      }
      return 0;
    case "load":
      if (rest.length === 0) return usage();
      for (const file of rest) await cluster.loadImage(resolve(process.env.INIT_CWD ?? ".", file));
      return 0;
    default:
      return usage();
  }
}

async function up(cluster: Cluster): Promise<number> {
  const began = performance.now();
  await build();
  await cluster.up({ say: (step) => process.stderr.write(`cluster: ${step}\n`) });
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  process.stdout.write(`The cluster ${cluster.settings.name} is up (${cluster.settings.nodes} nodes, ${seconds} s).
  export KUBECONFIG=${cluster.kubeconfig}
  export PATH=${cluster.settings.folder}/bin:$PATH    # its kubectl
  kubectl get nodes
Nodes and pods are reached from inside: npm run cluster -- exec -- COMMAND
`);
  return 0;
}

function exec(cluster: Cluster, args: readonly string[]): Promise<number> | number {
  let rest = args;
  let place: string | undefined;
  if (rest[0] === "-n") {
    place = rest[1];
    rest = rest.slice(2);
  }
  if (rest[0] === "--") rest = rest.slice(1);
  return rest.length === 0 ? usage() : foreground(cluster, rest, place);
}

async function node(cluster: Cluster, [verb, number]: readonly string[]): Promise<number> {
  if (verb === "stop") await cluster.stopNode(Number(number));
  else if (verb === "start") await cluster.startNode(Number(number));
  else return usage();
  return 0;
}

/** With the terminal, until it ends. */
function foreground(cluster: Cluster, words: readonly string[], number?: string): Promise<number> {
  const place = number === undefined ? {} : { node: nodeName(Number(number)) };
  const [program = "", ...args] = cluster.space.enter(words, place);
  return new Promise((done, reject) => {
    const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, ...cluster.space.environment } });
    child.on("error", reject);
    child.on("close", (code) => done(code ?? 1));
  });
}

function usage(): number {
  process.stderr.write(`${USAGE}\n`);
  return 2;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`cluster: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
