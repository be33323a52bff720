import { buildCommand } from "@stricli/core";
import { lazily } from "../command.ts";
import type { CliContext } from "../context.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

function shell(input: string): Shell {
  const found = SHELLS.find((name) => name === input);
  if (found === undefined) throw new SyntaxError(`"${input}" is not one of ${SHELLS.join(", ")}`);
  return found;
}

export const completionCommand = buildCommand<object, [Shell], CliContext>({
  loader: lazily(async () => (await import("../completion/completion.ts")).completion),
  parameters: {
    positional: { kind: "tuple", parameters: [{ brief: SHELLS.join(", "), parse: shell, placeholder: "shell" }] },
  },
  docs: {
    brief: "Print a script that completes commands and flags in a shell",
    fullDescription:
      "Load it: source <(tulle completion bash), source <(tulle completion zsh), or tulle completion fish | source",
  },
});

/** What the scripts call: not for people. */
export const proposeCommand = buildCommand<object, string[], CliContext>({
  loader: lazily(async () => (await import("../completion/completion.ts")).propose),
  parameters: {
    positional: { kind: "array", parameter: { brief: "Words before the cursor", parse: String, placeholder: "words" } },
  },
  docs: { brief: "Propose completions" },
});
