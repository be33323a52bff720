import type { CommandContext, StricliProcess } from "@stricli/core";
import type { Cluster, ClusterOptions } from "./kube/cluster.ts";

/** What a command may use of the outside. */
export interface CliContext extends CommandContext {
  readonly process: StricliProcess;
  /** Runs another part of Tulle in the foreground; answers with its exit code. */
  readonly runProcess: (program: string, args: readonly string[]) => Promise<number>;
  /** Rejects with CliError. */
  readonly connect: (options: ClusterOptions) => Promise<Cluster>;
  /** Asks at the terminal. Undefined: there is nobody to ask. */
  readonly ask: (question: string) => Promise<string | undefined>;
  /** Content of a file, or of standard input for `-`. */
  readonly readText: (path: string) => Promise<string>;
}
