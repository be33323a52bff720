import { type ClusterFlags, FAILED } from "../command.ts";
import type { CliContext } from "../context.ts";
import { type OutputFormat, structured } from "../ui/format.ts";
import { CROSS, styleFor, TICK, WARNING } from "../ui/style.ts";
import { type Finding, installedChecks, preChecks } from "./checks.ts";

export interface CheckFlags extends ClusterFlags {
  readonly pre: boolean;
  readonly output: OutputFormat;
}

/** `tulle check`: a line per thing that was looked at, and what to do about each that is not well. */
export async function check(context: CliContext, flags: CheckFlags): Promise<number> {
  await using cluster = await context.connect(flags);
  const { stdout, env } = context.process;
  const style = styleFor(stdout, env);
  const marks = { ok: style.good(TICK), warning: WARNING, failed: style.bad(CROSS) };
  const findings: Finding[] = [];
  const asData = flags.output === "json" || flags.output === "yaml";
  const checks = flags.pre ? preChecks : installedChecks;
  for await (const finding of checks(cluster, { namespace: flags.istioNamespace, all: flags.output !== "short" })) {
    findings.push(finding);
    if (asData) continue;
    stdout.write(`${marks[finding.state]} ${finding.text}\n`);
    if (finding.state !== "ok") stdout.write(`    ${finding.next}\n`);
  }
  if (asData) stdout.write(await structured(findings, flags.output));
  const failed = findings.filter(({ state }) => state === "failed").length;
  const warned = findings.filter(({ state }) => state === "warning").length;
  if (!asData) stdout.write(`${findings.length} checks: ${failed} failed, ${warned} with a warning\n`);
  return failed > 0 ? FAILED : 0;
}
