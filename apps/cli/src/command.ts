import type { CliContext } from "./context.ts";

/** What all commands that speak to a cluster share. */

export interface ClusterFlags {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly istioNamespace: string;
}

/** Of commands that also know the local mesh. */
export interface MeshFlags extends ClusterFlags {
  /** Its name, or AUTO. */
  readonly local: string;
}

const text = (input: string) => input;
/** The only local mesh of this machine, when no cluster is configured. */
export const AUTO = "auto";

export const LOCAL_FLAG = {
  kind: "parsed",
  parse: text,
  brief: "Local mesh instead of a cluster, by its name; auto: the one of this machine when there is no kubeconfig",
  default: AUTO,
  placeholder: "name",
} as const;

export const CLUSTER_FLAGS = {
  kubeconfig: {
    kind: "parsed",
    parse: text,
    brief: "Kubernetes configuration file",
    optional: true,
    placeholder: "file",
  },
  context: { kind: "parsed", parse: text, brief: "Context of the kubeconfig", optional: true, placeholder: "name" },
  istioNamespace: {
    kind: "parsed",
    parse: text,
    brief: "Namespace that Tulle is installed in",
    default: "istio-system",
    placeholder: "namespace",
  },
} as const;

export const MESH_FLAGS = { ...CLUSTER_FLAGS, local: LOCAL_FLAG } as const;

export const CLUSTER_ALIASES = { c: "kubeconfig", i: "istioNamespace" } as const;

/** What a command does; the number is its exit code, default 0. */
export type Action<F, A extends readonly unknown[]> = (
  context: CliContext,
  flags: F,
  ...args: A
) => Promise<number | void>;

/** For `loader:` of a command: loads the action when it runs, and prints what goes wrong with what to do next. */
export function lazily<F, A extends readonly unknown[]>(
  load: () => Promise<Action<F, A>>,
): () => Promise<(this: CliContext, flags: F, ...args: A) => Promise<void>> {
  return async () => {
    const action = await load();
    return async function (this: CliContext, flags: F, ...args: A): Promise<void> {
      try {
        this.process.exitCode = (await action(this, flags, ...args)) ?? 0;
      } catch (error) {
        const { describeError } = await import("./describe-error.ts");
        this.process.stderr.write(describeError(error));
        this.process.exitCode = FAILED;
      }
    };
  };
}

/** Exit codes: 0 done, 1 failed or something is not well, 2 the command line cannot be understood. */
export const FAILED = 1;
export const USAGE_ERROR = 2;
