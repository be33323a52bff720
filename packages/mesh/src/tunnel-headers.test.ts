import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seededRandom } from "@tulle/base";
import * as fc from "fast-check";
import { workload } from "../test/arbitraries.ts";
import { newWorkload } from "./defaults.ts";
import {
  buildBaggage,
  buildForwarded,
  isTraceparent,
  newTraceparent,
  parseBaggage,
  parseForwardedHost,
} from "./tunnel-headers.ts";

const NOTHING = {
  clusterName: undefined,
  namespace: undefined,
  workloadName: undefined,
  workloadType: undefined,
  serviceName: undefined,
  serviceVersion: undefined,
  region: undefined,
  zone: undefined,
};

describe("baggage", () => {
  const reviews = newWorkload({
    uid: "u",
    name: "reviews-1",
    namespace: "bookinfo",
    workloadName: "reviews",
    workloadType: "pod",
    canonicalName: "reviews",
    canonicalRevision: "v1",
    locality: { region: "r", zone: "z", subzone: "s" },
  });

  it("says who somebody is", () => {
    assert.equal(
      buildBaggage(reviews),
      "k8s.cluster.name=Kubernetes,k8s.namespace.name=bookinfo,k8s.pod.name=reviews,service.name=reviews," +
        "service.version=v1,cloud.region=r,cloud.availability_zone=z",
    );
  });

  it("leaves out what is empty", () => {
    const empty = newWorkload({ uid: "u", name: "n", namespace: "a", clusterId: "" });
    assert.equal(buildBaggage(empty), "k8s.namespace.name=a");
  });

  const cases: readonly (readonly [string, readonly string[], object])[] = [
    ["nothing", [], {}],
    ["empty", ["", ",", "=", "=x,a="], {}],
    ["several headers", ["k8s.namespace.name=a", "service.name=b"], { namespace: "a", serviceName: "b" }],
    ["spaces", [" k8s.namespace.name = a , service.version = v1"], { namespace: "a", serviceVersion: "v1" }],
    ["unknown keys", ["x=y,k8s.cluster.name=c,k8s.node.name=n"], { clusterName: "c" }],
    ["a job", ["k8s.job.name=j"], { workloadName: "j", workloadType: "job" }],
    ["a cron job", ["k8s.cronjob.name=j"], { workloadName: "j", workloadType: "cronjob" }],
    ["a deployment", ["k8s.deployment.name=j"], { workloadName: "j", workloadType: "deployment" }],
    ["an equals sign within", ["service.name=a=b"], { serviceName: "a=b" }],
    ["escapes", ["service.name=a%2Cb,service.version=100%"], { serviceName: "a,b", serviceVersion: "100%" }],
    ["a name of the prototype", ["__proto__=x,constructor=y"], {}],
    ["a value that is too long", [`service.name=${"x".repeat(254)}`], {}],
  ];
  for (const [name, headers, expected] of cases) {
    it(`is read: ${name}`, () => {
      assert.deepEqual(parseBaggage(headers), { ...NOTHING, ...expected });
    });
  }

  it("comes back as it was, whatever the names are, and is a header", () => {
    fc.assert(
      fc.property(workload, (one) => {
        const header = buildBaggage(one);
        assert.match(header, /^[\x21-\x7e]*$/);
        const read = parseBaggage([header]);
        assert.equal(read.namespace, one.namespace);
        // Encoded and read again, surrounding space would be lost if it were not escaped.
        assert.equal(read.serviceName, one.canonicalName === "" ? undefined : one.canonicalName.toWellFormed());
        assert.equal(read.workloadName, one.workloadName === "" ? undefined : one.workloadName.toWellFormed());
      }),
    );
  });

  it("is read without an error, whatever it is", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (headers) => {
        parseBaggage(headers);
        parseForwardedHost(headers);
      }),
    );
  });
});

describe("forwarded", () => {
  it("says for whom, and for which service", () => {
    assert.equal(buildForwarded({ ip: "127.0.0.1", port: 80 }, undefined), 'for="127.0.0.1:80"');
    assert.equal(buildForwarded({ ip: "::1", port: 80 }, undefined), 'for="[::1]:80"');
    assert.equal(
      buildForwarded({ ip: "127.0.0.1", port: 80 }, "web.ns.svc.cluster.local"),
      'for="127.0.0.1:80";host=web.ns.svc.cluster.local',
    );
    assert.equal(buildForwarded({ ip: "::1", port: 80 }, 'a b"\r\nx: y'), 'for="[::1]:80";host="a bx: y"');
  });

  const cases: readonly (readonly [readonly string[], string | undefined])[] = [
    [[], undefined],
    [['for="127.0.0.1:80"'], undefined],
    [['for="127.0.0.1:80";host=web.ns.svc'], "web.ns.svc"],
    [['for="1:2"; Host="WEB.ns.svc"'], "web.ns.svc"],
    [["for=1,host=a,host=b"], "a"],
    [["for=1", "host=b"], "b"],
    [["host=a b"], "a"],
    [["host="], undefined],
    [['host="a\\"b"'], undefined],
    [["xhost=a"], undefined],
    [["host=a<b>"], undefined],
    [[`host=${"x".repeat(300)}`], undefined],
  ];
  for (const [headers, expected] of cases) {
    it(`${JSON.stringify(headers).slice(0, 50)} is for ${expected ?? "nobody"}`, () => {
      assert.equal(parseForwardedHost(headers), expected);
    });
  }

  it("is read to the end even when it is made to make readers go back and forth", () => {
    const traps = ["host=".repeat(13_000), ";".repeat(65_000), 'a="'.repeat(20_000), `;${" ".repeat(65_000)}`];
    for (const trap of traps) assert.equal(parseForwardedHost([`${trap};host=end`]), "end");
  });
});

describe("traceparent", () => {
  it("is new each time and well-formed", () => {
    const random = seededRandom(1);
    const ids = Array.from({ length: 100 }, () => newTraceparent(random));
    assert.equal(new Set(ids).size, 100);
    for (const id of ids) assert.match(id, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    assert.ok(ids.every(isTraceparent));
    assert.ok(isTraceparent(newTraceparent(() => 0)), "never all zeros");
  });

  it("of a peer is taken only in its one form", () => {
    const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert.ok(isTraceparent(good));
    for (const bad of [
      "",
      good.slice(1),
      `${good}0`,
      good.toUpperCase(),
      good.replace("00-", "01-"),
      `00-${"0".repeat(32)}-b7ad6b7169203331-01`,
    ]) {
      assert.equal(isTraceparent(bad), false, bad);
    }
  });
});
