/** Flags of install and manifest generate. */

const text = (input: string) => input;

export const VALUE_FLAGS = {
  filename: {
    kind: "parsed",
    parse: text,
    brief: "File of values (YAML); - is standard input; may be repeated",
    variadic: true,
    optional: true,
    placeholder: "file",
  },
  set: {
    kind: "parsed",
    parse: text,
    brief: "One value, as path=value; may be repeated, and wins over files",
    variadic: true,
    optional: true,
    placeholder: "path=value",
  },
} as const;

export const INSTALL_ALIASES = { f: "filename", s: "set" } as const;
