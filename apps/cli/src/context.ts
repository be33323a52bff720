import type { CommandContext, StricliProcess } from "@stricli/core";

/** What a command may use of the outside. */
export interface CliContext extends CommandContext {
  readonly process: StricliProcess;
  /** Runs another part of Tulle in the foreground; answers with its exit code. */
  readonly runProcess: (program: string, args: readonly string[]) => Promise<number>;
}
