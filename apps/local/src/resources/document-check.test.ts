import assert from "node:assert/strict";
import { test } from "node:test";
import { type FileContent, formatProblem, readDocuments } from "@tulle/store/directory";
import { checkDocument } from "./document-check.ts";

function readFile(file: string, text: string): FileContent {
  return readDocuments(file, text, checkDocument);
}

/** What a user is told about a document, without the file name. */
function problemsOf(text: string): string[] {
  return readFile("f.yaml", text).problems.map((problem) => formatProblem(problem).replace("f.yaml:", ""));
}

/** A Deployment with `extra` lines inside its pod's spec, `container` lines inside its only container. */
function deployment(container = "", extra = ""): string {
  const indent = (text: string, by: number) =>
    text === ""
      ? ""
      : `${text
          .split("\n")
          .map((line) => `${" ".repeat(by)}${line}`)
          .join("\n")}\n`;
  return `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
${indent(extra, 6)}      containers:
      - name: web
        command: [node, web.ts]
${indent(container, 8)}`;
}

test("a file of several documents gives its resources, with the namespace filled in", () => {
  const { objects, problems } = readFile(
    "all.yaml",
    `# nothing but a comment
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
${deployment()}`,
  );
  assert.deepEqual(problems, []);
  assert.deepEqual(
    objects.map(({ line, object }) => [line, object.kind, object.metadata.namespace]),
    [
      [3, "Namespace", undefined],
      [7, "Service", "shop"],
      [12, "Deployment", "default"],
    ],
  );
});

test("a document with a fault does not hide the others of its file", () => {
  const { objects, problems } = readFile("f.yaml", `kind: Pod\n---\n${deployment()}---\nkind: ConfigMap\n`);
  assert.equal(objects.length, 1);
  assert.equal(problems.length, 2);
});

const faults: readonly (readonly [what: string, yaml: string, expected: RegExp])[] = [
  ["broken YAML", "kind: [", /^1: /],
  ["broken YAML further down", "kind: Namespace\nmetadata:\n  name: a\n bad", /^4: /],
  ["a document that is no object", "- a\n- b\n", /^1: must be a Kubernetes object/],
  ["a document without kind", "metadata: {name: a}\n", /^1: must have a kind/],
  [
    "an unknown kind",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
    /^2: kind "ConfigMap" is not supported by the local mesh \(it knows Namespace, /,
  ],
  [
    "a wrong apiVersion",
    "apiVersion: apps/v1beta1\nkind: Namespace\nmetadata: {name: a}\n",
    /^1: .*apiVersion must be v1/,
  ],
  ["a missing name", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n", /^3: Namespace: metadata must have "name"/],
  [
    "a bad name",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: Shop\n",
    /^4: .*metadata.name "Shop" is not a valid name/,
  ],
  [
    "hostNetwork",
    deployment("", "hostNetwork: true"),
    /^9: Deployment web: spec.template.spec.hostNetwork is not supported/,
  ],
  ["volumes", deployment("", "volumes: []"), /^9: .*spec.volumes is not supported/],
  ["initContainers", deployment("", "initContainers: []"), /^9: .*initContainers is not supported/],
  ["a pod's securityContext", deployment("", "securityContext: {}"), /^9: .*securityContext is not supported/],
  [
    "a container's securityContext",
    deployment("securityContext:\n  runAsUser: 0"),
    /^12: .*containers\[0\].securityContext is not supported/,
  ],
  ["a liveness probe", deployment("livenessProbe: {}"), /^12: .*livenessProbe is not supported/],
  [
    "a limit",
    deployment("resources:\n  limits: {memory: 1Gi}"),
    /^13: .*resources.limits is not supported.*no limit is enforced/,
  ],
  [
    "an unquoted value",
    deployment("env:\n- name: A\n  value: 1"),
    /^14: .*env\[0\].value must be a string.*put it in quotes: "1"/,
  ],
  [
    "env from a secret",
    deployment("env:\n- name: A\n  valueFrom: {secretKeyRef: {}}"),
    /secretKeyRef is not supported/,
  ],
  [
    "an unknown field of the pod",
    deployment("env:\n- name: A\n  valueFrom: {fieldRef: {fieldPath: status.phase}}"),
    /must be "metadata.name" or/,
  ],
  [
    "a probe of two kinds",
    deployment("readinessProbe:\n  httpGet: {port: 80}\n  tcpSocket: {port: 80}"),
    /^12: .*exactly one of httpGet and tcpSocket/,
  ],
  ["an exec probe", deployment("readinessProbe:\n  exec: {command: [ls]}"), /exec is not supported/],
  [
    "a port out of range",
    deployment("ports:\n- containerPort: 70000"),
    /^13: .*containerPort must be from 1 to 65535, not 70000/,
  ],
  ["a host port", deployment("ports:\n- containerPort: 80\n  hostPort: 80"), /^14: .*hostPort is not supported/],
  ["UDP", deployment("ports:\n- containerPort: 53\n  protocol: UDP"), /^14: .*protocol must be "TCP", not "UDP"/],
  [
    "too many replicas",
    deployment().replace("spec:\n  selector", "spec:\n  replicas: 1000\n  selector"),
    /^5: .*replicas must be from 0 to 50/,
  ],
  [
    "a waypoint",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    istio.io/use-waypoint: w\n",
    /^6: .*asks for a waypoint; the local mesh has none yet/,
  ],
  [
    "an annotation that changes capture",
    "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n  annotations:\n    ambient.istio.io/dns-capture: 'false'\n",
    /^6: .*dns-capture is not supported/,
  ],
  [
    "an annotation of the mesh's own",
    "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n  annotations:\n    local.tulle.dev/addresses: 10.0.0.1\n",
    /^6: .*addresses is not supported/,
  ],
  [
    "a slip in a service entry",
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n  hosts: [a.example]\n  resolution: STATC\n",
    /^6: .*resolution must be "NONE" or "STATIC"/,
  ],
  [
    "a fixed cluster IP",
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  clusterIP: 10.0.0.1\n",
    /^5: .*clusterIP must be "None" or left out/,
  ],
  [
    "a NodePort",
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: NodePort\n",
    /^5: .*must be "ClusterIP" or "LoadBalancer", not "NodePort"/,
  ],
  [
    "a slip in what a policy is attached to",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: [{kind: Service, nam: a}]\n",
    /^5: .*targetRefs\[0\]\.nam is not supported/,
  ],
  [
    "a slip in a policy",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  rules:\n  - from:\n    - source:\n        principal: [x]\n",
    /^8: .*rules\[0\].from\[0\].source.principal is not supported/,
  ],
  [
    "an unknown action",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {action: AUDIT}\n",
    /^4: .*action must be "ALLOW" or "DENY", not "AUDIT"/,
  ],
];

for (const [what, yaml, expected] of faults) {
  test(`${what} is refused with its line and field`, () => {
    const problems = problemsOf(yaml);
    assert.ok(
      problems.some((problem) => expected.test(problem)),
      problems.join("\n"),
    );
  });
}

test("what is honoured is accepted", () => {
  const { problems } = readFile(
    "f.yaml",
    deployment(
      [
        "image: web:v1",
        "imagePullPolicy: IfNotPresent",
        "args: [--fast]",
        "env:",
        "- {name: A, value: '1'}",
        "- {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}",
        "ports:",
        "- {name: http, containerPort: 8080, protocol: TCP}",
        "resources: {requests: {cpu: 100m}}",
        "readinessProbe:",
        "  httpGet: {path: /ready, port: http, httpHeaders: [{name: X-A, value: b}]}",
        "  periodSeconds: 2",
        "  failureThreshold: 1",
      ].join("\n"),
      "serviceAccountName: web\nterminationGracePeriodSeconds: 5\nrestartPolicy: Always",
    ),
  );
  assert.deepEqual(problems, []);
});

test("a policy may be attached to a service: whether anything enforces it stands in its status", () => {
  const { problems } = readFile(
    "f.yaml",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: [{group: '', kind: Service, name: a}]\n",
  );
  assert.deepEqual(problems, []);
});
