import { CliError } from "../cli-error.ts";

/** How results are printed. */
export type OutputFormat = "short" | "wide" | "json" | "yaml";

export const FORMATS: readonly OutputFormat[] = ["short", "wide", "json", "yaml"];

export const OUTPUT_FLAG = {
  kind: "enum",
  values: FORMATS,
  brief: "Form of the output",
  default: "short",
} as const;

/** JSON with the indentation that istioctl uses, or YAML. */
export async function structured(value: unknown, format: OutputFormat): Promise<string> {
  if (format === "json") return `${JSON.stringify(value, undefined, 4)}\n`;
  if (format !== "yaml") throw new CliError(`${format} is not a form for data`, "use -o json or -o yaml");
  const { stringify } = await import("yaml");
  return stringify(value, { aliasDuplicateObjects: false, lineWidth: 0 });
}
