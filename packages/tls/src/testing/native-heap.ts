import ffi from "node:ffi";
import { NativeBuffer } from "@tulle/linux";

/**
 * Bytes that malloc has handed out and not got back, in all threads of this process: where OpenSSL's objects live. RSS
 * hides a small leak behind the garbage collector's ups and downs, this does not. glibc only.
 */
export function nativeHeapBytes(): number {
  const library = new ffi.DynamicLibrary(null);
  try {
    const { open_memstream, malloc_info, fclose, free } = library.getFunctions({
      open_memstream: { arguments: ["pointer", "pointer"], return: "pointer" },
      malloc_info: { arguments: ["i32", "pointer"], return: "i32" },
      fclose: { arguments: ["pointer"], return: "i32" },
      free: { arguments: ["pointer"], return: "void" },
    });
    const result = NativeBuffer.alloc(16);
    const stream = open_memstream(result.pointer, result.pointerAt(8));
    malloc_info(0, stream);
    fclose(stream);
    const text = result.bytes.readBigUInt64LE(0);
    const xml = ffi.toBuffer(text, Number(result.bytes.readBigUInt64LE(8)), true).toString("latin1");
    free(text);
    // The sums over all arenas stand after the last of them.
    const sums = xml.slice(xml.lastIndexOf("</heap>"));
    return (
      size(sums, "system", "current") +
      size(sums, "total", "mmap") -
      size(sums, "total", "fast") -
      size(sums, "total", "rest")
    );
  } finally {
    library.close();
  }
}

function size(xml: string, element: string, type: string): number {
  const match = new RegExp(`<${element} type="${type}"[^>]* size="(\\d+)"`).exec(xml);
  if (match === null) throw new Error(`malloc_info says nothing about ${element} ${type}`);
  return Number(match[1]);
}
