import { messageOf } from "@tulle/base";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { WARNING } from "../ui/style.ts";
import { type Dump, parseDump } from "./dump.ts";
import type { Choice } from "./proxies.ts";

/** Gets the dumps that a command is about. */

export interface Collected {
  readonly dumps: readonly NodeDump[];
  /** One ztunnel was chosen, or a file. */
  readonly single: boolean;
  readonly pod: { readonly namespace: string; readonly name: string } | undefined;
  /** Some ztunnel did not answer: what is shown is not all. */
  readonly incomplete: boolean;
}

export interface NodeDump extends Dump {
  readonly node: string;
  readonly raw: object;
}

export interface SourceFlags extends Omit<Choice, "pod"> {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly local: string;
  readonly file?: string | undefined;
}

/** Dumps that are fetched at a time: each may have megabytes. */
const MAX_AT_ONCE = 8;

/** Rejects with CliError. A ztunnel that does not answer is named on standard error. */
export async function collect(context: CliContext, flags: SourceFlags, pod: string | undefined): Promise<Collected> {
  const chosen = [flags.file, flags.node, pod].filter((value) => value !== undefined);
  if (chosen.length > 1) throw new CliError("--file, --node and a pod exclude each other", "give at most one of them");
  if (flags.file !== undefined) {
    const dump = parseDump(await context.readText(flags.file), flags.file);
    return { dumps: [{ node: "", ...dump }], single: true, pod: undefined, incomplete: false };
  }
  // A file needs nothing of what speaks to clusters.
  const { selectZtunnels } = await import("./proxies.ts");
  await using cluster = await context.connect(flags);
  const selected = await selectZtunnels(cluster, { ...flags, pod });
  const dumps: NodeDump[] = [];
  const errors: unknown[] = [];
  const warnings: string[] = [];
  for (let i = 0; i < selected.ztunnels.length; i += MAX_AT_ONCE) {
    const batch = selected.ztunnels.slice(i, i + MAX_AT_ONCE).map(async ({ node, name, ask }) => {
      try {
        dumps.push({ node, ...parseDump(await ask("GET", "/config_dump"), name) });
      } catch (error) {
        errors.push(error);
        warnings.push(`${WARNING} ${node}: ${messageOf(error)}\n`);
      }
    });
    await Promise.all(batch);
  }
  // When none answers, the first is the error itself.
  for (const warning of warnings.slice(dumps.length === 0 ? 1 : 0)) context.process.stderr.write(warning);
  if (dumps.length === 0) throw errors[0];
  dumps.sort((a, b) => (a.node < b.node ? -1 : 1));
  return { dumps, single: selected.single, pod: selected.pod, incomplete: errors.length > 0 };
}
