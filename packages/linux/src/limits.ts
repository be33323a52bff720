import { calls, lastError } from "./calls.ts";
import { RLIMIT_NOFILE } from "./constants.ts";
import { orThrow } from "./errno.ts";
import { rlimitLayout } from "./layout.ts";
import { NativeBuffer } from "./native-buffer.ts";

/** How many descriptors this process may have open. `hard` can be reached without privilege. */
export interface DescriptorLimit {
  readonly soft: number;
  readonly hard: number;
}

/** The limit as it is. Throws SystemError. */
export function descriptorLimit(): DescriptorLimit {
  const memory = NativeBuffer.alloc(rlimitLayout.size);
  orThrow(prlimit(0n, memory.pointer), "read RLIMIT_NOFILE");
  return {
    soft: toCount(memory.bytes.readBigUInt64LE(rlimitLayout.soft)),
    hard: toCount(memory.bytes.readBigUInt64LE(rlimitLayout.hard)),
  };
}

/**
 * Raises the soft limit to `wanted` (default: as far as it goes), at most to the hard limit. Never lowers it. Returns
 * the limit as it is then. Throws SystemError.
 */
export function raiseDescriptorLimit(wanted: number = Number.MAX_SAFE_INTEGER): DescriptorLimit {
  const { soft, hard } = descriptorLimit();
  const next = Math.min(wanted, hard);
  if (next > soft) setDescriptorLimit(next, hard);
  return descriptorLimit();
}

/** Sets the soft limit, up or down. For tests, and for those who know. Throws SystemError. */
export function setDescriptorLimit(soft: number, hard: number = descriptorLimit().hard): void {
  const memory = NativeBuffer.alloc(rlimitLayout.size);
  memory.bytes.writeBigUInt64LE(BigInt(soft), rlimitLayout.soft);
  memory.bytes.writeBigUInt64LE(BigInt(hard), rlimitLayout.hard);
  orThrow(prlimit(memory.pointer, 0n), `set RLIMIT_NOFILE to ${soft}`);
}

function prlimit(from: bigint, to: bigint): number {
  return calls.prlimit(0, RLIMIT_NOFILE, from, to) < 0 ? lastError() : 0;
}

/** RLIM_INFINITY and other numbers beyond 2^53 come out as 2^53 - 1. */
function toCount(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}
