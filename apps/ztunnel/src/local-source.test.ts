import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { type Log, type LogFields, silentLog } from "@tulle/base";
import type { MeshChange } from "@tulle/mesh";
import { LocalSource } from "./local-source.ts";

const root = mkdtempSync(join(tmpdir(), "local-source-"));
after(() => rmSync(root, { recursive: true }));
let count = 0;

function workload(name: string): string {
  return `- {uid: ${name}, name: ${name}, namespace: ns, workloadIps: ["10.0.0.1"], services: {}}\n`;
}

function policy(name: string, action: string): string {
  return `- {name: ${name}, namespace: ns, scope: Namespace, action: ${action}, dryRun: false, rules: []}\n`;
}

async function waitFor(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A source that follows a file of its own; `next` gives the changes in a short form, list by list. */
async function follow(text: string, options: { readonly path?: string } = {}) {
  const directory = join(root, String(count++));
  mkdirSync(directory);
  const path = options.path ?? join(directory, "local.yaml");
  if (options.path === undefined) writeFileSync(path, text);
  const lists: string[][] = [];
  const lines: { readonly message: string; readonly fields: LogFields | undefined }[] = [];
  const line = (message: string, fields?: LogFields) => void lines.push({ message, fields });
  const log: Log = { ...silentLog, info: line, warn: line, error: line };
  const source = await LocalSource.start({
    source: { kind: "file", path },
    onChanges: (changes) => lists.push(changes.map(short)),
    log,
  });
  return {
    directory,
    path,
    lists,
    lines,
    source,
    next: async () => {
      await waitFor(() => lists.length > 0);
      return lists.shift();
    },
    logged: async (pattern: RegExp) => {
      const matches = () => lines.find(({ message, fields }) => pattern.test(`${message} ${JSON.stringify(fields)}`));
      await waitFor(() => matches() !== undefined);
      lines.length = 0;
    },
  };
}

function short(change: MeshChange): string {
  switch (change.kind) {
    case "workload":
      return `+${change.workload.uid}`;
    case "service":
      return `+${change.service.hostname}`;
    case "policy":
      return `+${change.policy.name}:${change.policy.action}`;
    case "remove-workload":
      return `-${change.uid}`;
    case "remove-service":
    case "remove-policy":
      return `-${change.key}`;
    case "synced":
      return change.kind;
    default:
      return change satisfies never;
  }
}

describe("local resources in a file", () => {
  it("are followed through edits and replacements, with what vanished removed", async () => {
    const file = await follow(`workloads:\n${workload("a")}${workload("b")}`);
    assert.deepEqual(await file.next(), ["+a", "+b"]);
    // In place.
    writeFileSync(file.path, `workloads:\n${workload("b")}${workload("c")}`);
    assert.deepEqual(await file.next(), ["+c", "-a"]);
    // Replaced by another file.
    writeFileSync(`${file.path}.new`, `workloads:\n${workload("c")}policies:\n${policy("p", "Deny")}`);
    renameSync(`${file.path}.new`, file.path);
    assert.deepEqual(await file.next(), ["+p:Deny", "-b"]);
    assert.equal(file.source.dump().policies.length, 1);
    // Only what differs is sent.
    writeFileSync(file.path, `workloads:\n${workload("c")}policies:\n${policy("p", "Allow")}`);
    assert.deepEqual(await file.next(), ["+p:Allow"]);
    file.source.close();
  });

  it("take effect in less than a second", async () => {
    const file = await follow(`policies:\n${policy("p", "Allow")}`);
    await file.next();
    const took: number[] = [];
    // A busy machine may be late with one, not with all.
    for (const action of ["Deny", "Allow", "Deny", "Allow", "Deny"]) {
      const startedAt = performance.now();
      writeFileSync(file.path, `policies:\n${policy("p", action)}`);
      assert.deepEqual(await file.next(), [`+p:${action}`]);
      took.push(performance.now() - startedAt);
    }
    assert.ok(Math.min(...took) < 1000, took.join());
    file.source.close();
  });

  it("keep their last good state when the file is wrong, and say on which line", async () => {
    const file = await follow(`workloads:\n${workload("a")}`);
    await file.next();
    writeFileSync(file.path, `workloads:\n${workload("a")}- {uid: x, unknown: 1}\n`);
    await file.logged(/last good ones stay.*local\.yaml:3:/);
    writeFileSync(file.path, "workloads: [");
    await file.logged(/last good ones stay.*local\.yaml:1:/);
    assert.equal(file.source.dump().workloads.length, 1);
    assert.deepEqual(file.lists, []);
    writeFileSync(file.path, `workloads:\n${workload("b")}`);
    assert.deepEqual(await file.next(), ["+b", "-a"]);
    file.source.close();
  });

  it("keep their last good state when the file is gone, and follow it when it is back", async () => {
    const file = await follow(`workloads:\n${workload("a")}`);
    await file.next();
    rmSync(file.path);
    await file.logged(/cannot be read.*ENOENT/);
    assert.deepEqual(file.lists, []);
    writeFileSync(file.path, `workloads:\n${workload("b")}`);
    assert.deepEqual(await file.next(), ["+b", "-a"]);
    file.source.close();
  });

  it("do not take a file that is being written for a whole one", async () => {
    const file = await follow(`workloads:\n${workload("a")}${workload("b")}`);
    await file.next();
    for (let round = 0; round < 5; round++) {
      writeFileSync(file.path, "");
      await new Promise((done) => setTimeout(done, 60));
      appendFileSync(file.path, `workloads:\n${workload("a")}`);
      await new Promise((done) => setTimeout(done, 40));
      appendFileSync(file.path, workload("b"));
      if (round === 4) appendFileSync(file.path, workload("c"));
    }
    assert.deepEqual(await file.next(), ["+c"], "b was never removed");
    file.source.close();
  });

  it("follow a ConfigMap, whose files are symbolic links into a directory that is swapped", async () => {
    const directory = join(root, "configmap");
    const version = (name: string, text: string) => {
      mkdirSync(join(directory, name), { recursive: true });
      writeFileSync(join(directory, name, "local.yaml"), text);
      symlinkSync(name, join(directory, "..data_tmp"));
      renameSync(join(directory, "..data_tmp"), join(directory, "..data"));
    };
    version("..1", `workloads:\n${workload("a")}`);
    symlinkSync(join("..data", "local.yaml"), join(directory, "local.yaml"));
    const file = await follow("", { path: join(directory, "local.yaml") });
    assert.deepEqual(await file.next(), ["+a"]);
    version("..2", `workloads:\n${workload("b")}`);
    assert.deepEqual(await file.next(), ["+b", "-a"]);
    file.source.close();
  });

  it("survive many edits in a row and end with the last one", async () => {
    const file = await follow(`workloads:\n${workload("w0")}`);
    for (let i = 1; i <= 50; i++) {
      if (i % 2 === 0) {
        writeFileSync(file.path, `workloads:\n${workload(`w${i}`)}`);
      } else {
        writeFileSync(`${file.path}.${i}`, i % 5 === 0 ? "workloads: {" : `workloads:\n${workload(`w${i}`)}`);
        renameSync(`${file.path}.${i}`, file.path);
      }
      if (i % 10 === 0) await new Promise((done) => setTimeout(done, 30));
    }
    const known = new Set<string>();
    while (!known.has("w50")) {
      for (const change of (await file.next()) ?? []) {
        if (change.startsWith("+")) known.add(change.slice(1));
        else known.delete(change.slice(1));
      }
    }
    assert.deepEqual([...known], ["w50"]);
    file.source.close();
  });

  it("stop the start when they are wrong or missing", async () => {
    const directory = join(root, "bad");
    mkdirSync(directory);
    const path = join(directory, "local.yaml");
    const start = () =>
      LocalSource.start({
        source: { kind: "file", path },
        onChanges: () => assert.fail("nothing changes"),
        log: silentLog,
      });
    await assert.rejects(start(), { code: "LOCAL_XDS_INVALID", message: /local\.yaml: ENOENT/ });
    writeFileSync(path, "workloads:\n- {name: a}\n- {name: b}\n");
    await assert.rejects(start(), { code: "LOCAL_XDS_INVALID", message: /local\.yaml:2:.*\n.*local\.yaml:3:/ });
  });
});

describe("local resources in a variable", () => {
  it("are read once", async () => {
    const lists: string[][] = [];
    const source = await LocalSource.start({
      source: { kind: "inline", text: `workloads:\n${workload("a")}` },
      onChanges: (changes) => lists.push(changes.map(short)),
      log: silentLog,
    });
    assert.deepEqual(lists, [["+a"]]);
    assert.equal(source.dump().workloads.length, 1);
    source.close();
  });

  it("stop the start when they are wrong", async () => {
    await assert.rejects(
      LocalSource.start({ source: { kind: "inline", text: "services: 1" }, onChanges: () => {}, log: silentLog }),
      { code: "LOCAL_XDS_INVALID", message: /LOCAL_XDS:1:/ },
    );
  });
});
