import ffi from "node:ffi";
import type { Descriptor } from "./descriptor.ts";
import { orThrow } from "./errno.ts";
import { NativeBuffer } from "./native-buffer.ts";

/**
 * Readiness of a descriptor on Node's own loop, for the main thread (a data thread has its reactor): libuv's uv_poll_t,
 * which the node binary exports. Node offers no other way to wait for a SOCK_SEQPACKET socket.
 */

/** `uv_handle_type` and `uv_poll_event` (uv.h). */
const UV_POLL = 8;
const UV_READABLE = 1;

/** The C functions and the two callbacks, made for a thread when it first watches something. */
interface Binding {
  readonly library: ffi.DynamicLibrary;
  init(handle: bigint, fd: number): number;
  start(handle: bigint): number;
  close(handle: bigint): void;
  readonly handleSize: number;
}
let binding: Binding | undefined;

/** By handle address. A handle's memory must stay until libuv has called back, hence the two maps. */
const watched = new Map<bigint, DescriptorWatch>();
const closing = new Map<bigint, NativeBuffer>();

/** Calls back, from Node's loop, as long as the descriptor is readable (bytes, a connection to accept, or the end). */
export class DescriptorWatch {
  readonly #memory: NativeBuffer;
  readonly #onReadable: () => void;
  #closed = false;
  #scheduled = false;

  /** The descriptor stays the caller's, who closes this watch before it. Keeps the process running. Throws SystemError. */
  constructor(descriptor: Descriptor, onReadable: () => void) {
    binding ??= bind();
    this.#onReadable = onReadable;
    this.#memory = NativeBuffer.alloc(binding.handleSize);
    orThrow(binding.init(this.#memory.pointer, descriptor.fd), "watch a descriptor");
    watched.set(this.#memory.pointer, this);
    const started = binding.start(this.#memory.pointer);
    if (started < 0) {
      this.close();
      orThrow(started, "watch a descriptor");
    }
  }

  /** Idempotent. Nothing is called back after it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    watched.delete(this.#memory.pointer);
    closing.set(this.#memory.pointer, this.#memory);
    binding?.close(this.#memory.pointer);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** From libuv: the handler runs right after, from Node's own machinery, where it may throw and use promises. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed) this.#onReadable();
    });
  }
}

function bind(): Binding {
  const library = new ffi.DynamicLibrary(null);
  const functions = library.getFunctions({
    uv_handle_size: { arguments: ["i32"], return: "u64" },
    uv_poll_init: { arguments: ["pointer", "pointer", "i32"], return: "i32" },
    uv_poll_start: { arguments: ["pointer", "i32", "pointer"], return: "i32" },
    uv_close: { arguments: ["pointer", "pointer"], return: "void" },
  });
  // Neither callback can throw: map look-ups and setImmediate only. An exception here would abort the process.
  const onPoll = library.registerCallback({ arguments: ["pointer", "i32", "i32"], return: "void" }, (handle) => {
    watched.get(handle as bigint)?.schedule();
  });
  const onClosed = library.registerCallback({ arguments: ["pointer"], return: "void" }, (handle) => {
    closing.delete(handle as bigint);
  });
  const loop = ffi.getCurrentEventLoop();
  return {
    library,
    handleSize: Number(functions.uv_handle_size(UV_POLL)),
    init: (handle, fd) => functions.uv_poll_init(loop, handle, fd),
    start: (handle) => functions.uv_poll_start(handle, UV_READABLE, onPoll),
    close: (handle) => functions.uv_close(handle, onClosed),
  };
}
