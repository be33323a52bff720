import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const TIMEOUT_MS = 30_000;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

interface Running extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly http: string;
  readonly monitoring: string;
  readonly state: string;
  readonly yaml: string;
}

/** The process over a directory of YAML, as the local mesh starts it. */
async function start(folder: string, env: Readonly<Record<string, string>> = {}): Promise<Running> {
  const state = join(folder, "state");
  const yaml = join(folder, "yaml");
  await mkdir(state, { recursive: true, mode: 0o700 });
  await mkdir(yaml, { recursive: true });
  await writeFile(join(folder, "jwks.json"), '{"keys":[]}');
  const [grpc, http, monitoring] = await Promise.all([freePort(), freePort(), freePort()]);
  const child = spawn(process.execPath, [MAIN], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env["PATH"],
      NODE_NO_WARNINGS: "1",
      TULLE_STORE: "directory",
      TULLE_STORE_DIRECTORY: yaml,
      TULLE_STORE_STATE: state,
      TULLE_TOKEN_JWKS: join(folder, "jwks.json"),
      TULLE_LISTEN_HOST: "127.0.0.1",
      TULLE_SECURE_GRPC_PORT: String(grpc),
      TULLE_HTTP_PORT: String(http),
      TULLE_MONITORING_PORT: String(monitoring),
      ROOT_CA_DIR: join(folder, "none"),
      TERMINATION_DRAIN_DURATION: "100ms",
      ...env,
    },
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (part: string) => (text += part));
  return {
    child,
    output: () => text,
    http: `http://127.0.0.1:${http}`,
    monitoring: `http://127.0.0.1:${monitoring}`,
    state,
    yaml,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

async function until(condition: () => Promise<boolean>, what: () => string): Promise<void> {
  const end = performance.now() + TIMEOUT_MS;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > end) throw new Error(`timeout: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("the process serves a directory of YAML, keeps its root over restarts, and ends when it is told to", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tulle-main-"));
  try {
    let secret = "";
    for (const round of [1, 2]) {
      await using running = await start(folder);
      await until(async () => (await fetch(`${running.http}/ready`)).status === 200, running.output);
      await writeFile(
        join(running.yaml, "shop.yaml"),
        `apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed${round}, namespace: shop}\nspec: {}\n`,
      );
      const policies = async () =>
        JSON.stringify(await (await fetch(`${running.monitoring}/debug/authorizationz`)).json());
      await until(async () => (await policies()).includes(`"closed${round}"`), running.output);
      const found = await secretIn(running.state);
      if (round === 2) assert.equal(found, secret, "the same root");
      secret = found;
      running.child.kill("SIGTERM");
      const [code] = await once(running.child, "exit", { signal: AbortSignal.timeout(TIMEOUT_MS) });
      assert.equal(code, 0, running.output());
      assert.match(running.output(), /shutting down/);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("a start that cannot be says why and exits with 1", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tulle-main-"));
  try {
    await mkdir(join(folder, "cacerts"));
    await writeFile(join(folder, "cacerts", "ca-cert.pem"), "x");
    const cases = [
      [{ MAX_WORKLOAD_CERT_TTL: "soon" }, /MAX_WORKLOAD_CERT_TTL is "soon"/],
      [{ ROOT_CA_DIR: join(folder, "cacerts") }, /cacerts holds ca-cert.pem, but not ca-key.pem/],
      [{ TULLE_STORE: "floppy" }, /TULLE_STORE is "floppy"/],
    ] as const;
    for (const [env, pattern] of cases) {
      await using running = await start(folder, env);
      const [code] = await once(running.child, "exit", { signal: AbortSignal.timeout(TIMEOUT_MS) });
      assert.equal(code, 1);
      assert.match(running.output(), pattern);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/** The Secret with the root, wherever the store keeps it. */
async function secretIn(state: string): Promise<string> {
  const { glob } = await import("node:fs/promises");
  for await (const path of glob("**/*istio-ca-secret*", { cwd: state })) {
    const file = join(state, path);
    if (existsSync(file)) return readFile(file, "utf8");
  }
  throw new Error(`there is no Secret in ${state}`);
}
