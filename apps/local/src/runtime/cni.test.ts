import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { addPod, addRequest, type NewSandbox } from "./cni.ts";

const sandbox: NewSandbox = {
  name: "web-1",
  namespace: "shop",
  netns: "/run/netns/web-1",
  address: { v4: "10.201.1.10", v6: "fd00::10" },
  gateway: { v4: "10.201.0.1", v6: "fd00::1" },
  prefixLength: { v4: 17, v6: 64 },
};

async function agent(t: TestContext, status: number, text: string) {
  const folder = mkdtempSync(join(tmpdir(), "tulle-cni-"));
  const socket = join(folder, "s");
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    request.setEncoding("utf8").on("data", (chunk: string) => bodies.push(chunk));
    request.on("end", () => {
      if (status > 0) response.writeHead(status).end(text);
    });
  }).listen(socket);
  t.after(() => {
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true });
  });
  await new Promise((resolve) => server.once("listening", resolve));
  return { socket, bodies };
}

test("the agent is told namespace, name and addresses as the plugin tells them", async (t) => {
  const { socket, bodies } = await agent(t, 200, "");
  await addPod(socket, sandbox, AbortSignal.timeout(5000));
  assert.deepEqual(JSON.parse(bodies.join("")), addRequest(sandbox));
  assert.deepEqual(addRequest(sandbox), {
    Netns: "/run/netns/web-1",
    PodName: "web-1",
    PodNamespace: "shop",
    IPs: [
      { Interface: "eth0", Address: { IP: "10.201.1.10", Mask: "//+AAA==" }, Gateway: "10.201.0.1" },
      { Interface: "eth0", Address: { IP: "fd00::10", Mask: "//////////8AAAAAAAAAAA==" }, Gateway: "fd00::1" },
    ],
  });
});

test("a refusal comes through with the agent's words", async (t) => {
  const { socket } = await agent(t, 500, "no ztunnel is connected\n");
  await assert.rejects(addPod(socket, sandbox, AbortSignal.timeout(5000)), /^Error: no ztunnel is connected$/);
});

test("an agent that is not there, or does not answer, lets no pod start", async (t) => {
  await assert.rejects(addPod("/nonexistent/socket", sandbox, AbortSignal.timeout(5000)), /ENOENT/);
  const { socket } = await agent(t, 0, "");
  const stop = new AbortController();
  const asked = addPod(socket, sandbox, stop.signal);
  stop.abort();
  await assert.rejects(asked, /not answered in time/);
});
