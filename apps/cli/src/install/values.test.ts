import assert from "node:assert/strict";
import { test } from "node:test";
import { CliError } from "../cli-error.ts";
import { VERSION } from "../version.ts";
import { readValues } from "./values.ts";

const set = (...sets: string[]) => readValues({ files: [], sets });
const file = (content: unknown, ...sets: string[]) => readValues({ files: [{ name: "values.yaml", content }], sets });

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof CliError, String(error));
    return `${error.message} | ${error.next}`;
  }
  throw new assert.AssertionError({ message: "it was accepted" });
}

test("without anything the defaults hold", () => {
  const values = set();
  assert.equal(values.hub, "docker.io/tulle");
  assert.equal(values.tag, VERSION);
  assert.equal(values.profile, "ambient");
  assert.deepEqual(values["cni.excludeNamespaces"], ["kube-system"]);
});

test("values are set by path, with or without values. in front", () => {
  const values = set("values.cni.ambient.dnsCapture=false", "tag=2.0.0", "ztunnel.terminationGracePeriodSeconds=90");
  assert.equal(values["cni.ambient.dnsCapture"], false);
  assert.equal(values.tag, "2.0.0");
  assert.equal(values["ztunnel.terminationGracePeriodSeconds"], 90);
  assert.equal(set("global.hub=registry.example/x").hub, "registry.example/x");
});

test("lists, mappings and parts of objects", () => {
  assert.deepEqual(set("cni.excludeNamespaces={kube-system,ci}")["cni.excludeNamespaces"], ["kube-system", "ci"]);
  assert.deepEqual(set("pilot.podAnnotations.example\\.com/owner=me")["pilot.podAnnotations"], {
    "example.com/owner": "me",
  });
  assert.deepEqual(set("pilot.resources.requests.cpu=1")["pilot.resources"], {
    requests: { cpu: "1", memory: "256Mi" },
  });
  assert.deepEqual(set('pilot.tolerations=[{"operator":"Exists"}]')["pilot.tolerations"], [{ operator: "Exists" }]);
  assert.deepEqual(set("meshConfig.trustDomain=example.org", "meshConfig.enableTracing=true").meshConfig, {
    trustDomain: "example.org",
    enableTracing: true,
  });
});

test("files are laid under --set, and an IstioOperator is understood", () => {
  const operator = {
    apiVersion: "install.istio.io/v1alpha1",
    kind: "IstioOperator",
    spec: {
      profile: "ambient",
      tag: "1",
      meshConfig: { trustDomain: "a" },
      values: { cni: { cniBinDir: "/opt/bin" } },
    },
  };
  const values = file(operator, "tag=2");
  assert.equal(values.tag, "2");
  assert.equal(values["cni.cniBinDir"], "/opt/bin");
  assert.equal(values.meshConfig["trustDomain"], "a");
});

const REFUSED: readonly (readonly [what: string, read: () => unknown, text: RegExp])[] = [
  [
    "a typing error",
    () => set("cni.ambient.dnscapture=true"),
    /no value cni.ambient.dnscapture \| did you mean cni.ambient.dnsCapture/,
  ],
  ["a forgotten prefix", () => set("dnsCapture=true"), /no value dnsCapture \| did you mean cni.ambient.dnsCapture/],
  ["nothing near", () => set("gateways.enabled=true"), /no value gateways.enabled \| see what can be set/],
  [
    "an unknown field in a file",
    () => file({ cni: { ambient: { ipv66: true } } }),
    /no value cni.ambient.ipv66 \| did you mean cni.ambient.ipv6/,
  ],
  [
    "an unknown field of MeshConfig",
    () => set("meshConfig.trustdomain=x"),
    /no value meshConfig.trustdomain \| did you mean trustDomain/,
  ],
  [
    "a wrong kind of resources",
    () => set("ztunnel.resources.request.cpu=1"),
    /ztunnel.resources.request \| did you mean requests/,
  ],
  ["another profile", () => set("profile=demo"), /profile is "demo", but must be ambient/],
  ["no boolean", () => set("cni.ambient.ipv6=maybe"), /cni.ambient.ipv6 is "maybe", but must be true or false/],
  ["no number", () => set("ztunnel.terminationGracePeriodSeconds=soon"), /must be a whole number from 0/],
  ["a text where a mapping belongs", () => set("pilot.env=x"), /pilot.env is "x", but must be a mapping/],
  ["a mapping where a text belongs", () => set("tag.x=1"), /no value tag.x|tag is \{"x":"1"\}, but must be a text/],
  ["no equals sign", () => set("tag"), /there is no "="/],
  ["an empty part", () => set("cni..x=1"), /the path has an empty part/],
  ["a broken list", () => set("pilot.tolerations=[{"), /the list is not JSON/],
  [
    "components of an operator",
    () => file({ kind: "IstioOperator", spec: { components: {} } }),
    /spec.components is not supported/,
  ],
  ["a revision", () => file({ kind: "IstioOperator", spec: { revision: "x" } }), /spec.revision is not supported/],
  ["a file that is no mapping", () => file(["a"]), /must be a YAML mapping/],
];

for (const [what, read, text] of REFUSED) {
  test(`${what} is refused with what to do`, () => {
    assert.match(refusal(read), text);
  });
}
