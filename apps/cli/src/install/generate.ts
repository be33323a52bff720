import { stringify } from "yaml";
import type { CliContext } from "../context.ts";
import { readCrds } from "./manifests/crds.ts";
import { manifests } from "./manifests/manifests.ts";
import { readInput, type ValueFlags } from "./sources.ts";

export interface GenerateFlags extends ValueFlags {
  readonly crds: boolean;
}

/** `tulle manifest generate`: prints what install would apply. */
export async function generate(context: CliContext, flags: GenerateFlags): Promise<void> {
  const input = await readInput(context, flags);
  for (const object of manifests(input, flags.crds ? readCrds() : [])) {
    context.process.stdout.write(`---\n${stringify(object, { aliasDuplicateObjects: false, lineWidth: 0 })}`);
  }
}
