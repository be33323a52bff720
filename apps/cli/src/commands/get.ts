import { buildCommand } from "@stricli/core";
import { CLUSTER_FLAGS, lazily, LOCAL_FLAG } from "../command.ts";
import type { CliContext } from "../context.ts";
import type { GetFlags } from "../get/get.ts";
import { OUTPUT_FLAG } from "../ui/format.ts";

const text = (input: string) => input;

export const getCommand = buildCommand<GetFlags, [string, string?], CliContext>({
  loader: lazily(async () => (await import("../get/get.ts")).get),
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [
        { brief: "Kind of objects: pods, services, authorizationpolicies, …", parse: text, placeholder: "kind" },
        { brief: "Name of one object", parse: text, placeholder: "name", optional: true },
      ],
    },
    flags: {
      kubeconfig: CLUSTER_FLAGS.kubeconfig,
      context: CLUSTER_FLAGS.context,
      local: LOCAL_FLAG,
      namespace: { kind: "parsed", parse: text, brief: "Namespace", optional: true, placeholder: "namespace" },
      allNamespaces: { kind: "boolean", brief: "Objects of all namespaces", default: false, withNegated: false },
      output: OUTPUT_FLAG,
    },
    aliases: { c: "kubeconfig", n: "namespace", A: "allNamespaces", o: "output" },
  },
  docs: { brief: "Show objects and their status" },
});
