import { messageOf } from "@tulle/base";
import { CliError } from "../cli-error.ts";
import { FAILED } from "../command.ts";
import type { CliContext } from "../context.ts";
import { didYouMean } from "../near-names.ts";
import { WARNING } from "../ui/style.ts";
import { type Choice, selectZtunnels } from "./proxies.ts";

/** `tulle ztunnel-config log`: shows and changes what ztunnels log while they run. */

export interface LogFlags extends Omit<Choice, "pod"> {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly local: string;
  /** `[scope:]level,…` */
  readonly level?: string | undefined;
  readonly reset: boolean;
}

/** Levels by the names that people know them by. */
const LEVELS: Readonly<Record<string, string>> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warn",
  warning: "warn",
  error: "error",
  critical: "error",
  off: "off",
};

export async function showLog(context: CliContext, flags: LogFlags, pod?: string): Promise<number> {
  if (flags.reset && flags.level !== undefined) {
    throw new CliError("--reset and --level exclude each other", "give one of them");
  }
  if (flags.node !== undefined && pod !== undefined) {
    throw new CliError("--node and a pod exclude each other", "give one of them");
  }
  const path = pathOf(flags);
  await using cluster = await context.connect(flags);
  let failed = false;
  for (const { name, ask } of (await selectZtunnels(cluster, { ...flags, pod })).ztunnels) {
    try {
      const reply = await ask("POST", path);
      context.process.stdout.write(`${name}:\n${reply.endsWith("\n") ? reply : `${reply}\n`}`);
    } catch (error) {
      failed = true;
      context.process.stderr.write(`${WARNING} ${name}: ${messageOf(error)}\n`);
    }
  }
  return failed ? FAILED : 0;
}

/** Throws CliError when a level is none. */
export function pathOf({ level, reset }: Pick<LogFlags, "level" | "reset">): string {
  // Every ztunnel understands this; ours goes back to what it was started with.
  if (reset) return "/logging?level=info&reset";
  if (level === undefined) return "/logging";
  return `/logging?level=${encodeURIComponent(level.split(",").map(normalized).join(","))}`;
}

/** `[scope:]level` in the form that ztunnels read. */
function normalized(part: string): string {
  const colon = part.search(/[:=](?=[^:=]*$)/);
  const scope = colon < 0 ? undefined : part.slice(0, colon);
  const text = part.slice(colon + 1).toLowerCase();
  const level = Object.hasOwn(LEVELS, text) ? LEVELS[text] : undefined;
  if (level === undefined || scope === "") {
    const names = Object.keys(LEVELS);
    throw new CliError(
      `"${part}" is not a level`,
      didYouMean(text, names) ?? `levels are ${names.join(", ")}; scope:level is for one scope`,
    );
  }
  return scope === undefined ? level : `${scope}=${level}`;
}
