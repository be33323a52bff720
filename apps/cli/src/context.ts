import type { CommandContext, StricliProcess } from "@stricli/core";

/** Of a command that has none. */
export type NoFlags = Readonly<Record<string, never>>;

/** What a command may use of the outside. */
export interface CliContext extends CommandContext {
  readonly process: StricliProcess;
  /** Runs another part of Tulle in the foreground; answers with its exit code. */
  readonly runProcess: (program: string, args: readonly string[]) => Promise<number>;
}
