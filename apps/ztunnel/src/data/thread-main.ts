import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { ConnectionTable, duplicateNumber, NetNamespace } from "@tulle/linux";
import { EpollReactor } from "@tulle/reactor";
import { createDataTelemetry } from "@tulle/telemetry";
import { TlsContext } from "@tulle/tls";
import type { ThreadInput } from "../data-threads.ts";
import type { Command } from "../protocol.ts";
import { DataThread } from "./thread.ts";

/** The entry of a data thread: from here on the thread belongs to its reactor and never returns to Node's loop. */

/** A bounded wait: a thread that is blocked in the kernel cannot be ended from outside. */
const MAX_WAIT_MS = 500;

const input = workerData as ThreadInput;
const telemetry = createDataTelemetry(input.telemetry);
const reactor = new EpollReactor({ onFault: () => telemetry.count("handler_faults") });
const thread = new DataThread({
  settings: input.settings,
  reactor,
  telemetry,
  podCounters: new Int32Array(input.podCounters),
  createContext: (material) => TlsContext.create(material, { pqcOnly: input.settings.pqcOnly }),
  adoptNamespace: (descriptor) => NetNamespace.adopt(duplicateNumber(descriptor, "netns")),
  openConnections: (namespace) => {
    if (!(namespace instanceof NetNamespace)) throw new TypeError("an epoll reactor takes a NetNamespace as namespace");
    return ConnectionTable.open(namespace);
  },
  report: (report) => input.port.postMessage(report),
});

function readCommands(): void {
  for (;;) {
    const received: { readonly message: Command } | undefined = receiveMessageOnPort(input.port);
    if (received === undefined) return;
    thread.handle(received.message);
  }
}

/** Commands are read outside the reactor's barriers: a thread that has lost one is not in step any more and must end. */
let woken = false;
reactor.onWake(() => {
  woken = true;
});
input.port.postMessage({ kind: "ready", wakeDescriptor: reactor.wakeDescriptor });
while (!thread.exiting) {
  reactor.turn(MAX_WAIT_MS);
  if (woken) {
    woken = false;
    readCommands();
  }
  telemetry.turn();
}
thread.close();
reactor.close();
input.port.close();
