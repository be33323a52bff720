import type { Contender } from "../contender.ts";

/** No proxy and no rules: what the machine can do. */
export const direct: Contender = {
  name: "direct",
  title: "direct",
  wire: "direct",
  start: () => Promise.resolve({ pids: [], stop: () => Promise.resolve() }),
};
