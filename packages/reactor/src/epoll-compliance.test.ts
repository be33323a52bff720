import { closeSync, openSync } from "node:fs";
import { after, before } from "node:test";
import { type DescriptorLimit, descriptorLimit, setDescriptorLimit, Waker } from "@tulle/linux";
import { createTestNamespace, NOWHERE_V4, reactorCompliance, type TestNamespace } from "@tulle/testkit";
import { EpollReactor } from "./epoll-reactor.ts";

/** Short, because one thread drives both ends: while one waits, the other cannot work. */
const WAIT_MS = 1;

let inside: TestNamespace;
before(() => {
  inside = createTestNamespace();
});
after(() => inside.close());

reactorCompliance("epoll", () => {
  const { namespace } = inside;
  const client = new EpollReactor({ namespace });
  const server = new EpollReactor({ namespace });
  let limit: DescriptorLimit | undefined;
  return {
    client,
    server,
    serverV4: "127.0.0.1",
    serverV6: "::1",
    nowhere: { ip: NOWHERE_V4, port: 80 },
    turn() {
      client.turn(WAIT_MS);
      server.turn(WAIT_MS);
    },
    wake(reactor) {
      using waker = new Waker(reactor.wakeDescriptor);
      waker.wake();
    },
    failAccepts(fail) {
      if (fail) {
        limit = descriptorLimit();
        setDescriptorLimit(lowestFreeDescriptor());
      } else if (limit !== undefined) setDescriptorLimit(limit.soft);
    },
    close() {
      client.close();
      server.close();
    },
  };
});

/** The number that the next descriptor would get: as a limit it leaves none. */
function lowestFreeDescriptor(): number {
  const fd = openSync("/dev/null", "r");
  closeSync(fd);
  return fd;
}
