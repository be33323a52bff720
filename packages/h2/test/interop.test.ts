import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { NativeBuffer } from "@tulle/linux";
import { EpollReactor } from "@tulle/reactor";
import {
  type ConnectionHandler,
  Http2Error,
  type Http2Stream,
  servePlain,
  type StreamHandler,
  ThreadMemory,
} from "../src/index.ts";
import { drive } from "./drive.ts";

const run = promisify(execFile);
const TOOL_TIMEOUT = { timeout: 20_000, maxBuffer: 32 * 1024 * 1024, encoding: "buffer" } as const;
const BIG = Buffer.alloc(3_000_000, "Tulle, a fine light net. ");

/** Small enough for ten of them to fit into the memory that Node gives a session. */
const BODY = BIG.subarray(0, 300_000);

let server: ChildProcess;
let url: string;
let folder: string;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "tulle-h2-"));
  writeFileSync(join(folder, "big"), BIG);
  const tool = fileURLToPath(new URL("../tools/server.ts", import.meta.url));
  server = spawn(process.execPath, [tool, "--port", "0", "--host", "127.0.0.1"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(server.stdout!, "data")) as [Buffer];
  url = `http://${/listening on (\S+)/.exec(line.toString())?.[1]}`;
});

after(() => {
  server.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

test("curl gets an answer, and its big body back", async () => {
  const args = ["-s", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-o"];
  const get = await run("curl", [...args, "/dev/null", url], TOOL_TIMEOUT);
  assert.equal(get.stdout.toString(), "2 200");
  const { stdout } = await run(
    "curl",
    ["-s", "--http2-prior-knowledge", "--data-binary", `@${join(folder, "big")}`, url],
    TOOL_TIMEOUT,
  );
  assert.ok(stdout.equals(BIG));
});

test("nghttp sends a body, trailers and its priority tree", async () => {
  const { stdout } = await run("nghttp", ["-d", join(folder, "big"), "--trailer", "x-sum: 1", url], TOOL_TIMEOUT);
  assert.ok(stdout.equals(BIG));
});

test("h2load: thousands of requests over many streams, none fails", async () => {
  const { stdout } = await run("h2load", ["-n", "5000", "-c", "10", "-m", "50", url], TOOL_TIMEOUT);
  assert.match(stdout.toString(), /5000 done, 5000 succeeded, 0 failed, 0 errored/);
});

test("node:http2 as a client: bodies, trailers, many streams, a refused push setting", async () => {
  const session = http2.connect(url, { settings: { enablePush: false, initialWindowSize: 1000 } });
  const bodies = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const stream = session.request({ ":method": "POST", ":path": "/", "x-i": String(i) }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-last": String(i) }));
      const trailers = once(stream, "trailers");
      stream.end(BIG.subarray(0, 20_000 + i));
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      const [fields] = (await trailers) as [http2.IncomingHttpHeaders];
      return { length: Buffer.concat(chunks).length, last: fields["x-last"] };
    }),
  );
  assert.deepEqual(
    bodies,
    Array.from({ length: 50 }, (_, i) => ({ length: 20_000 + i, last: String(i) })),
  );
  session.close();
  await once(session, "close");
});

/** Collects one response. */
class Response implements StreamHandler {
  status = 0;
  length = 0;
  fields = new Map<string, string>();
  readonly done: Promise<string>;
  #finish: (how: string) => void = () => {};
  constructor() {
    this.done = new Promise((resolve) => (this.#finish = resolve));
  }
  onResponse(
    _stream: Http2Stream,
    head: { status: number; fields: readonly (readonly [string, string, ...unknown[]])[] },
  ): void {
    this.status = head.status;
    for (const [name, value] of head.fields) this.fields.set(name, value);
  }
  onData(stream: Http2Stream, _buffer: NativeBuffer, _offset: number, length: number): void {
    this.length += length;
    stream.consume(length);
  }
  onEnd(_stream: Http2Stream, trailers: readonly (readonly [string, string, ...unknown[]])[] | undefined): void {
    for (const [name, value] of trailers ?? []) this.fields.set(name, value);
    this.#finish("ended");
  }
  onReset(_stream: Http2Stream, error: Http2Error): void {
    this.#finish(`reset ${error.code}`);
  }
  onSendable(): void {}
}

test("node:http2 as a server: ordinary requests, trailers, CONNECT, GOAWAY", async () => {
  const foreign = http2.createServer({ settings: { initialWindowSize: 3000, maxConcurrentStreams: 10 } });
  foreign.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    stream.on("error", () => {});
    if (headers[":method"] === "CONNECT") {
      stream.respond({ ":status": 200 });
      stream.pipe(stream);
      return;
    }
    stream.respond({ ":status": 200, "x-path": String(headers[":path"]) }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "yes" }));
    stream.end(BODY);
  });
  foreign.listen(0, "127.0.0.1");
  await once(foreign, "listening");
  const reactor = new EpollReactor();
  const stop = drive(reactor);
  try {
    const closed = Promise.withResolvers<Http2Error | undefined>();
    const ready = Promise.withResolvers<void>();
    const handler: ConnectionHandler = {
      onReady: () => ready.resolve(),
      onRequest() {},
      onStreamClosed() {},
      onGoAway() {},
      onClosed: (_connection, error) => closed.resolve(error),
    };
    const connected = Promise.withResolvers<void>();
    const socket = reactor.connect(
      { address: { ip: "127.0.0.1", port: (foreign.address() as AddressInfo).port } },
      { onConnected: () => connected.resolve(), onReadable() {}, onWritable() {} },
    );
    await connected.promise;
    const client = servePlain({
      role: "client",
      connection: socket,
      timers: reactor,
      memory: new ThreadMemory(),
      handler,
    });
    await ready.promise;
    const responses = Array.from({ length: 10 }, (_, i) => {
      const response = new Response();
      client.open(
        [
          [":method", "GET"],
          [":scheme", "http"],
          [":path", `/${i}`],
          [":authority", "x"],
        ],
        true,
        response,
      );
      return response;
    });
    assert.equal(client.canOpen, false, "the server allows ten streams");
    for (const [i, response] of responses.entries()) {
      assert.equal(await response.done, "ended");
      assert.deepEqual([response.status, response.length], [200, BODY.length]);
      assert.deepEqual([response.fields.get("x-path"), response.fields.get("x-end")], [`/${i}`, "yes"]);
    }
    const echo = new Response();
    const tunnel = client.open(
      [
        [":method", "CONNECT"],
        [":authority", "x:1"],
      ],
      false,
      echo,
    )!;
    assert.equal(tunnel.write(BIG, 0, 2000), 2000);
    tunnel.end();
    assert.equal(await echo.done, "ended");
    assert.equal(echo.length, 2000);
    client.drain();
    assert.equal(await closed.promise, undefined);
  } finally {
    stop();
    foreign.close();
  }
});
