import assert from "node:assert/strict";
import { test } from "node:test";
import type { Container, Pod } from "../objects.ts";
import { declaredProbePorts } from "./probe-ports.ts";

function portsOf(containers: readonly Container[], initContainers: readonly Container[] = []): readonly number[] {
  const pod: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "ns" },
    spec: { containers, initContainers },
  };
  return declaredProbePorts(pod);
}

const CASES: readonly (readonly [what: string, containers: readonly Container[], ports: readonly number[]])[] = [
  ["no probes", [{ ports: [{ containerPort: 80 }] }], []],
  [
    "one of each kind",
    [
      {
        startupProbe: { httpGet: { port: 8080 } },
        readinessProbe: { tcpSocket: { port: 9090 } },
        livenessProbe: { grpc: { port: 5000 } },
      },
    ],
    [5000, 8080, 9090],
  ],
  ["hooks", [{ lifecycle: { postStart: { httpGet: { port: 1 } }, preStop: { httpGet: { port: 2 } } } }], [1, 2]],
  ["a name", [{ ports: [{ name: "web", containerPort: 80 }], livenessProbe: { httpGet: { port: "web" } } }], [80]],
  ["digits in a string", [{ livenessProbe: { tcpSocket: { port: "81" } } }], [81]],
  [
    "a name of another container",
    [{ ports: [{ name: "web", containerPort: 80 }] }, { livenessProbe: { httpGet: { port: "web" } } }],
    [],
  ],
  ["another host", [{ livenessProbe: { httpGet: { port: 80, host: "example.com" } } }], []],
  ["the same port twice", [{ readinessProbe: { grpc: { port: 7 } }, livenessProbe: { grpc: { port: 7 } } }], [7]],
  [
    "ports that are none",
    [{ readinessProbe: { grpc: { port: 0 } }, livenessProbe: { tcpSocket: { port: 70000 } } }],
    [],
  ],
  ["a command", [{ livenessProbe: { exec: {} } as Container["livenessProbe"] & object }], []],
];
for (const [what, containers, ports] of CASES) {
  test(`probe ports of ${what}`, () => assert.deepEqual(portsOf(containers), ports));
}

test("probes of sidecars count, those of other init containers do not exist", () => {
  const sidecar: Container = { restartPolicy: "Always", readinessProbe: { tcpSocket: { port: 15 } } };
  assert.deepEqual(portsOf([], [sidecar, { readinessProbe: { tcpSocket: { port: 16 } } }]), [15]);
});
