import { buildCommand, run } from "@stricli/core";
import type { CliContext } from "../context.ts";

export const helpCommand = buildCommand({
  async func(this: CliContext, _flags: object, command?: string) {
    const { app } = await import("../app.ts");
    await run(app, command === undefined ? ["--help"] : [command, "--help"], this);
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "Command to explain", parse: String, placeholder: "command", optional: true }],
    },
  },
  docs: { brief: "Explain the commands" },
});
