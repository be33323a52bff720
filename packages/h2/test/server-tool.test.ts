import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as net from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ErrorCode } from "../src/error.ts";
import { CLIENT_PREFACE, Flag, FRAME_HEADER, FrameType, readUint31, readUint32 } from "../src/frame.ts";
import { block, frame, GET, POST, type RawFrame, settings, uint32 } from "./raw-peer.ts";

const { DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE } = FrameType;
const { END_STREAM, END_HEADERS } = Flag;

let server: ChildProcess;
let port: number;

before(async () => {
  const tool = fileURLToPath(new URL("../tools/server.ts", import.meta.url));
  server = spawn(process.execPath, [tool, "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(server.stdout!, "data")) as [Buffer];
  port = Number(/:(\d+)\s*$/.exec(line.toString())?.[1]);
});

after(() => void server.kill("SIGKILL"));

/** A raw client, as a conformance tester would be one. */
class Tester {
  readonly frames: RawFrame[] = [];
  closed = false;
  readonly #socket: net.Socket;
  #input: Buffer = Buffer.alloc(0);
  #changed: () => void = () => {};

  constructor(own: Uint8Array) {
    this.#socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    this.#socket.on("error", () => {});
    this.#socket.on("data", (data: Buffer) => this.#receive(data));
    this.#socket.on("end", () => this.#end());
    this.#socket.on("close", () => this.#end());
    this.send(CLIENT_PREFACE, frame(SETTINGS, 0, 0, own));
  }

  send(...frames: Uint8Array[]): void {
    this.#socket.write(Buffer.concat(frames));
  }

  async until(what: string, done: () => boolean): Promise<void> {
    const timer = setTimeout(() => this.#socket.destroy(new Error("too late")), 5000);
    while (!done() && !this.closed) await new Promise<void>((resolve) => (this.#changed = resolve));
    clearTimeout(timer);
    assert.ok(done(), `${what}; got ${JSON.stringify(this.frames.map((f) => [f.type, f.flags, f.streamId]))}`);
  }

  /** A PING's answer comes behind everything that was sent before it. */
  async settle(): Promise<void> {
    this.send(frame(PING, 0, 0, "settled!"));
    await this.until("the PING's answer", () => this.frames.some((f) => f.type === PING && f.flags === Flag.ACK));
  }

  take(type: number, streamId: number): RawFrame[] {
    return this.frames.filter((f) => f.type === type && f.streamId === streamId);
  }

  close(): void {
    this.#socket.destroy();
  }

  #end(): void {
    this.closed = true;
    this.#changed();
  }

  #receive(data: Buffer): void {
    this.#input = Buffer.concat([this.#input, data]);
    while (this.#input.length >= FRAME_HEADER) {
      const end = FRAME_HEADER + this.#input.readUIntBE(0, 3);
      if (this.#input.length < end) break;
      const [type, flags] = [this.#input[3]!, this.#input[4]!];
      const payload = Buffer.from(this.#input.subarray(FRAME_HEADER, end));
      this.frames.push({ type, flags, streamId: readUint31(this.#input, 5), payload });
      this.#input = this.#input.subarray(end);
    }
    this.#changed();
  }
}

test("with a window of 1 the answer's first byte comes alone, and the rest as the window opens", async () => {
  const tester = new Tester(settings([4, 1]));
  tester.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(GET)));
  await tester.settle();
  assert.deepEqual(
    tester.take(DATA, 1).map((f) => f.payload.length),
    [1],
  );
  tester.send(frame(WINDOW_UPDATE, 0, 1, uint32(1000)));
  await tester.until("the end", () => tester.take(DATA, 1).some((f) => f.flags & END_STREAM));
  tester.close();
});

test("one stream more than was announced is refused", async () => {
  const tester = new Tester(settings([4, 0]));
  await tester.settle();
  const announced = tester.take(SETTINGS, 0)[0]!.payload;
  let limit = 0;
  for (let at = 0; at < announced.length; at += 6)
    if (announced.readUInt16BE(at) === 3) limit = readUint32(announced, at + 2);
  assert.equal(limit, 200);
  for (let i = 0; i <= limit; i++) tester.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, block(GET)));
  const last = 2 * limit + 1;
  await tester.until("the refusal", () => tester.take(RST_STREAM, last).length === 1);
  assert.equal(readUint32(tester.take(RST_STREAM, last)[0]!.payload, 0), ErrorCode.REFUSED_STREAM);
  tester.close();
});

test("a connection error is told by GOAWAY before the connection ends", async () => {
  const tester = new Tester(Buffer.alloc(0));
  tester.send(frame(HEADERS, END_HEADERS | END_STREAM, 2, block(GET)), Buffer.alloc(100_000));
  await tester.until("GOAWAY", () => tester.take(GOAWAY, 0).length === 1);
  assert.equal(readUint32(tester.take(GOAWAY, 0)[0]!.payload, 4), ErrorCode.PROTOCOL_ERROR);
  await tester.until("the end", () => tester.closed);
  tester.close();
});

test("what is not HTTP/2 is cut off", async () => {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.resume();
  socket.write("INVALID CONNECTION PREFACE\r\n\r\n");
  await once(socket, "close");
});

test("a body is echoed, with its trailers, before the request has ended", async () => {
  const tester = new Tester(Buffer.alloc(0));
  tester.send(frame(HEADERS, END_HEADERS, 1, block(POST)), frame(DATA, 0, 1, "half of "));
  await tester.until("the first half", () => tester.take(DATA, 1).length === 1);
  tester.send(frame(DATA, 0, 1, "it"), frame(HEADERS, END_HEADERS | END_STREAM, 1, block([["x-sum", "1"]])));
  await tester.until("the trailers", () => tester.take(HEADERS, 1).length === 2);
  assert.equal(Buffer.concat(tester.take(DATA, 1).map((f) => f.payload)).toString(), "half of it");
  tester.close();
});
