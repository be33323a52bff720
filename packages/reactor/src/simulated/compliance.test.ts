import { reactorCompliance } from "@tulle/testkit";
import { CALM, SimulatedNetwork } from "./network.ts";
import type { SimulatedReactor } from "./reactor.ts";

const WAIT_MS = 1;

reactorCompliance("simulated", () => {
  const network = new SimulatedNetwork({ seed: 1 });
  const client = network.reactor(network.namespace("client", ["10.9.0.1", "fd09::1"]));
  const server = network.reactor(network.namespace("server", ["10.9.0.2", "fd09::2"]));
  return {
    client,
    server,
    serverV4: "10.9.0.2",
    serverV6: "fd09::2",
    nowhere: { ip: "10.9.9.9", port: 80 },
    turn() {
      client.turn(WAIT_MS);
      server.turn(WAIT_MS);
    },
    wake(reactor) {
      (reactor as SimulatedReactor).wake();
    },
    failAccepts(fail) {
      network.faults = { ...CALM, acceptFailures: fail ? 1 : 0 };
    },
    close() {
      client.close();
      server.close();
    },
  };
});
