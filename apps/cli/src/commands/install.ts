import { buildCommand } from "@stricli/core";
import { CLUSTER_ALIASES, CLUSTER_FLAGS, lazily } from "../command.ts";
import type { CliContext } from "../context.ts";
import type { InstallFlags } from "../install/install.ts";
import { INSTALL_ALIASES, VALUE_FLAGS } from "./value-flags.ts";
import { whole } from "./whole.ts";

const DEFAULT_TIMEOUT_SECONDS = 300;
const MAX_TIMEOUT_SECONDS = 3600;

export const installCommand = buildCommand<InstallFlags, [], CliContext>({
  loader: lazily(async () => (await import("../install/install.ts")).install),
  parameters: {
    flags: {
      ...CLUSTER_FLAGS,
      ...VALUE_FLAGS,
      skipConfirmation: { kind: "boolean", brief: "Ask nothing", default: false, withNegated: false },
      dryRun: { kind: "boolean", brief: "Change nothing; tell what would change", default: false, withNegated: false },
      timeout: {
        kind: "parsed",
        parse: whole(1, MAX_TIMEOUT_SECONDS),
        brief: "Seconds until a part that is not ready counts as failed",
        default: String(DEFAULT_TIMEOUT_SECONDS),
      },
    },
    aliases: { ...CLUSTER_ALIASES, ...INSTALL_ALIASES, y: "skipConfirmation" },
  },
  docs: {
    brief: "Install Tulle into a Kubernetes cluster, or upgrade it",
    fullDescription:
      "Applies schemas, control plane, node agents and proxies and waits until they are ready. Repeat it with other values " +
      "to change an installation. Values: profile, hub, tag, meshConfig.*, global.*, pilot.*, cni.*, ztunnel.*, as in " +
      "--set cni.ambient.dnsCapture=false or --set 'pilot.resources.requests.memory=512Mi'. With -f an IstioOperator or a " +
      "mapping of values.",
  },
});
