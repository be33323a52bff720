import { buildCommand, buildRouteMap } from "@stricli/core";
import { CLUSTER_FLAGS, lazily } from "../command.ts";
import type { CliContext } from "../context.ts";
import type { GenerateFlags } from "../install/generate.ts";
import { INSTALL_ALIASES, VALUE_FLAGS } from "./value-flags.ts";

const generateCommand = buildCommand<GenerateFlags, [], CliContext>({
  loader: lazily(async () => (await import("../install/generate.ts")).generate),
  parameters: {
    flags: {
      istioNamespace: CLUSTER_FLAGS.istioNamespace,
      ...VALUE_FLAGS,
      crds: { kind: "boolean", brief: "With the schemas of Gateway API and Istio", default: true },
    },
    aliases: { ...INSTALL_ALIASES, i: "istioNamespace" },
  },
  docs: { brief: "Print what install would apply" },
});

export const manifestCommand = buildRouteMap({
  routes: { generate: generateCommand },
  docs: { brief: "Objects of an installation" },
});
