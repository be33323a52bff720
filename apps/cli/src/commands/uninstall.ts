import { buildCommand } from "@stricli/core";
import { CLUSTER_ALIASES, CLUSTER_FLAGS, lazily } from "../command.ts";
import type { CliContext } from "../context.ts";
import type { UninstallFlags } from "../install/uninstall.ts";
import { whole } from "./whole.ts";

const DEFAULT_TIMEOUT_SECONDS = 300;
const MAX_TIMEOUT_SECONDS = 3600;

export const uninstallCommand = buildCommand<UninstallFlags, [], CliContext>({
  loader: lazily(async () => (await import("../install/uninstall.ts")).uninstall),
  parameters: {
    flags: {
      ...CLUSTER_FLAGS,
      purge: {
        kind: "boolean",
        brief: "Also remove schemas (CRDs) with all their objects, and the namespace; lists them first",
        default: false,
        withNegated: false,
      },
      skipConfirmation: { kind: "boolean", brief: "Ask nothing", default: false, withNegated: false },
      timeout: {
        kind: "parsed",
        parse: whole(1, MAX_TIMEOUT_SECONDS),
        brief: "Seconds until a part that does not end counts as failed",
        default: String(DEFAULT_TIMEOUT_SECONDS),
      },
    },
    aliases: { ...CLUSTER_ALIASES, y: "skipConfirmation" },
  },
  docs: {
    brief: "Remove Tulle from a Kubernetes cluster",
    fullDescription:
      "Node agents go first: they release every pod and remove their files. Schemas (CRDs) and what users made of them stay " +
      "unless --purge is given.",
  },
});
