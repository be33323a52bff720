import { messageOf } from "@tulle/base";
import { type Document, parseDocument } from "yaml";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import type { ManifestInput } from "./manifests/common.ts";
import { readValues } from "./values.ts";

/** What the user says about an installation: the flags of install and manifest generate. */

export interface ValueFlags {
  readonly filename?: readonly string[] | undefined;
  readonly set?: readonly string[] | undefined;
  readonly istioNamespace: string;
}

const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** Rejects with CliError. */
export async function readInput(context: CliContext, flags: ValueFlags): Promise<ManifestInput> {
  if (!NAMESPACE.test(flags.istioNamespace)) {
    throw new CliError(
      `"${flags.istioNamespace}" cannot be the name of a namespace`,
      "choose another --istio-namespace",
    );
  }
  const files = [];
  for (const name of flags.filename ?? []) {
    const document = parseDocument(await context.readText(name));
    const [error] = document.errors;
    if (error !== undefined) {
      // What follows the first line is a drawing of the place that it names.
      const [problem = ""] = error.message.split("\n");
      throw new CliError(`${name}: ${problem.replace(/:$/, "")}`, "correct the file and try again");
    }
    files.push({ name, content: contentOf(document, name) });
  }
  return { values: readValues({ files, sets: flags.set ?? [] }), namespace: flags.istioNamespace };
}

/** Throws CliError, also for aliases that would grow without bound. */
function contentOf(document: Document, name: string): unknown {
  try {
    return document.toJS();
  } catch (cause) {
    throw new CliError(`${name}: ${messageOf(cause)}`, "correct the file and try again", cause);
  }
}
