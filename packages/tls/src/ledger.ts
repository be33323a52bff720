/** Kinds of native objects that this package owns. */
export type TlsObjectKind = "context" | "session" | "output" | "backlog";

const live: Record<TlsObjectKind, number> = { context: 0, session: 0, output: 0, backlog: 0 };
let used = false;

/**
 * Native objects of this thread that are alive, by kind: `context` (SSL_CTX), `session` (SSL), `backlog` (ciphertext that
 * was fed but not read), `output` (ciphertext buffers, the few empty ones that are kept for reuse left out).
 */
export function liveTlsObjects(): Readonly<Record<TlsObjectKind, number>> {
  return { ...live };
}

/** Whether this thread has ever made a context or a session. */
export function hasUsedTls(): boolean {
  return used;
}

export function born(kind: TlsObjectKind): void {
  live[kind]++;
  used = true;
}

export function freed(kind: TlsObjectKind): void {
  if (live[kind] === 0) throw new Error(`a native ${kind} was freed twice`);
  live[kind]--;
}
