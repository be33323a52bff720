import { buildCommand } from "@stricli/core";
import type { ExplainFlags } from "../cluster/explain-command.ts";
import { CLUSTER_ALIASES, lazily, MESH_FLAGS } from "../command.ts";
import type { CliContext } from "../context.ts";
import { OUTPUT_FLAG } from "../ui/format.ts";
import { whole } from "./whole.ts";

const MAX_PORT = 65_535;
const text = (input: string) => input;

export const explainCommand = buildCommand<ExplainFlags, string[], CliContext>({
  loader: lazily(async () => (await import("../cluster/explain-command.ts")).explainConnection),
  parameters: {
    positional: {
      kind: "array",
      parameter: { brief: "from POD to NAME:PORT", parse: text, placeholder: "from A to B:port" },
    },
    flags: {
      ...MESH_FLAGS,
      namespace: {
        kind: "parsed",
        parse: text,
        brief: "Namespace of the pod",
        optional: true,
        placeholder: "namespace",
      },
      proxyAdminPort: { kind: "parsed", parse: whole(1, MAX_PORT), brief: "Admin port of ztunnel", default: "15000" },
      output: OUTPUT_FLAG,
    },
    aliases: { ...CLUSTER_ALIASES, n: "namespace", o: "output" },
  },
  docs: {
    brief: "Tell what would become of a connection, and which policy or missing object decides it",
    customUsage: ["from productpage-v1 to reviews:9080", "from default/deploy/productpage-v1 to 10.0.0.7:80"],
    fullDescription:
      "A is a pod, its deployment (deploy/name) or its address, B a name or address. Asks the ztunnel of A's node. Exit " +
      "code 1 when the connection would be refused.",
  },
});
