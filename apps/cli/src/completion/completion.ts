import { proposeCompletions } from "@stricli/core";
import type { CliContext } from "../context.ts";

/** Scripts for shells; each asks `tulle complete -- WORDS` for what fits. */
const SCRIPTS = {
  bash: `_tulle() {
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  mapfile -t COMPREPLY < <(tulle complete -- "\${words[@]}" 2>/dev/null)
}
complete -o default -F _tulle tulle
`,
  zsh: `#compdef tulle
_tulle() {
  local -a proposals
  proposals=("\${(@f)$(tulle complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a proposals
}
compdef _tulle tulle
`,
  fish: `function __tulle_complete
  set -l words (commandline -opc) (commandline -ct)
  tulle complete -- $words[2..] 2>/dev/null
end
complete -c tulle -f -a '(__tulle_complete)'
`,
} as const;

/** `tulle completion SHELL`. */
export async function completion(context: CliContext, _flags: object, shell: keyof typeof SCRIPTS): Promise<void> {
  context.process.stdout.write(SCRIPTS[shell]);
}

/** A proposal a line. The last word is what is being typed. */
export async function propose(context: CliContext, _flags: object, ...words: string[]): Promise<void> {
  const { app } = await import("../app.ts");
  const inputs = words.length === 0 ? [""] : words;
  const proposals = await proposeCompletions(app, inputs, context);
  for (const { completion: text } of proposals) context.process.stdout.write(`${text}\n`);
}
