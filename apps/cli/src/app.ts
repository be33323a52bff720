import { type Application, buildApplication, buildRouteMap } from "@stricli/core";
import { helpCommand } from "./commands/help.ts";
import { installCommand } from "./commands/install.ts";
import { manifestCommand } from "./commands/manifest.ts";
import { uninstallCommand } from "./commands/uninstall.ts";
import { upCommand } from "./commands/up.ts";
import { versionCommand } from "./commands/version.ts";
import { ztunnelConfigCommand } from "./commands/ztunnel-config.ts";
import type { CliContext } from "./context.ts";
import { VERSION } from "./version.ts";

/** All commands. Each one's code is loaded when it runs, so that the others start fast. */
export const app: Application<CliContext> = buildApplication(
  buildRouteMap({
    routes: {
      install: installCommand,
      uninstall: uninstallCommand,
      manifest: manifestCommand,
      ztunnelConfig: ztunnelConfigCommand,
      up: upCommand,
      version: versionCommand,
      help: helpCommand,
    },
    aliases: { zc: "ztunnelConfig" },
    docs: { brief: "Tulle: a service mesh without sidecars" },
  }),
  {
    name: "tulle",
    versionInfo: { currentVersion: VERSION },
    scanner: { caseStyle: "allow-kebab-for-camel" },
  },
);
