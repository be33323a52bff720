import { isMainThread } from "node:worker_threads";
import { seededRandom } from "@tulle/base";
import { NativeBuffer } from "@tulle/linux";
import { setVerificationTime } from "./handshake-callbacks.ts";
import { hasUsedTls, liveTlsObjects } from "./ledger.ts";
import { mapBytes } from "./native-memory.ts";
import { nativeCallback, openssl, type Pointer } from "./openssl.ts";

/** rand.h: RAND_METHOD is six function pointers: seed, bytes, cleanup, add, pseudorand, status. */
const METHOD_BYTES = 48;
const BYTES_AT = 8;
const PSEUDORAND_AT = 32;
const STATUS_AT = 40;

/** OpenSSL keeps the address of the method: the memory must live as long as the process. */
let method: NativeBuffer | undefined;

/** The seeded generator of this process. */
export interface DeterministicTls {
  /**
   * Begins anew, as if it had just been installed: the next run of a simulation in the same process. Throws Error while
   * anything of the run before is alive.
   */
  restart(seed: number, wallClock: () => number): void;
}

/**
 * For the process of the simulation alone: from here on all of OpenSSL's randomness comes from `seed`, so that a run can
 * be repeated byte for byte (key shares, ML-KEM, ECDSA nonces and randoms; node:crypto too), and certificates are judged
 * at `wallClock()` (ms since the epoch). There is no secrecy left in such a process, and no way back.
 *
 * Nothing may use OpenSSL on another thread of the process afterwards (no workers, no asynchronous node:crypto): the
 * generator runs on this one. Throws Error when it is installed twice, after TLS was used, or outside the main thread.
 */
export function installDeterministicTls(seed: number, wallClock: () => number): DeterministicTls {
  if (!isMainThread)
    throw new Error("deterministic TLS belongs to a simulation's main thread: data threads need secrets");
  if (method !== undefined) throw new Error("deterministic TLS is installed already");
  if (hasUsedTls()) throw new Error("deterministic TLS must be installed before the first TLS context is made");
  let random = seededRandom(seed);
  const bytes = nativeCallback(["pointer", "i32"], "i32", (target: Pointer, length: number) => {
    try {
      const memory = new Uint8Array(mapBytes(target, length));
      for (let i = 0; i < length; i++) memory[i] = Math.floor(random() * 256);
      return 1;
    } catch {
      // OpenSSL takes 0 for a failure and refuses what it was asked for; throwing would end the process.
      return 0;
    }
  });
  const status = nativeCallback([], "i32", () => 1);
  method = NativeBuffer.alloc(METHOD_BYTES);
  method.bytes.writeBigUInt64LE(bytes, BYTES_AT);
  method.bytes.writeBigUInt64LE(bytes, PSEUDORAND_AT);
  method.bytes.writeBigUInt64LE(status, STATUS_AT);
  if (openssl().RAND_set_rand_method(method.pointer) !== 1) throw new Error("OpenSSL does not take another generator");
  setVerificationTime(wallClock);
  return {
    restart(nextSeed, nextClock) {
      const alive = Object.entries(liveTlsObjects()).filter(([, count]) => count > 0);
      if (alive.length > 0) throw new Error(`the run before has left TLS objects alive: ${alive.join(" ")}`);
      random = seededRandom(nextSeed);
      setVerificationTime(nextClock);
    },
  };
}
