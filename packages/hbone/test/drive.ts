import type { Reactor } from "@tulle/reactor";

/** Turns a reactor between Node's own events, so that Node's peers can live in the same thread. Returns how to stop. */
export function drive(reactor: Reactor): () => void {
  let stopped = false;
  const loop = (): void => {
    if (stopped) return;
    for (let i = 0; i < 16 && reactor.turn(0) > 0; i++);
    setImmediate(loop);
  };
  setImmediate(loop);
  return () => {
    stopped = true;
    reactor.close();
  };
}
