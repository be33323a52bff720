import { type Application, buildApplication, buildRouteMap } from "@stricli/core";
import { helpCommand } from "./commands/help.ts";
import { upCommand } from "./commands/up.ts";
import { versionCommand } from "./commands/version.ts";
import type { CliContext } from "./context.ts";
import { VERSION } from "./version.ts";

/** All commands. Each one's code is loaded when it runs, so that the others start fast. */
export const app: Application<CliContext> = buildApplication(
  buildRouteMap({
    routes: { up: upCommand, version: versionCommand, help: helpCommand },
    docs: { brief: "Tulle: a service mesh without sidecars" },
  }),
  {
    name: "tulle",
    versionInfo: { currentVersion: VERSION },
    scanner: { caseStyle: "allow-kebab-for-camel" },
  },
);
