import { type Application, buildApplication, buildRouteMap } from "@stricli/core";
import { checkCommand } from "./commands/check.ts";
import { completionCommand, proposeCommand } from "./commands/completion.ts";
import { downCommand } from "./commands/down.ts";
import { explainCommand } from "./commands/explain.ts";
import { getCommand } from "./commands/get.ts";
import { helpCommand } from "./commands/help.ts";
import { installCommand } from "./commands/install.ts";
import { manifestCommand } from "./commands/manifest.ts";
import { statusCommand } from "./commands/status.ts";
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
      check: checkCommand,
      status: statusCommand,
      get: getCommand,
      explain: explainCommand,
      ztunnelConfig: ztunnelConfigCommand,
      up: upCommand,
      down: downCommand,
      version: versionCommand,
      completion: completionCommand,
      complete: proposeCommand,
      help: helpCommand,
    },
    aliases: { zc: "ztunnelConfig" },
    docs: { brief: "Tulle: a service mesh without sidecars", hideRoute: { complete: true } },
  }),
  {
    name: "tulle",
    versionInfo: { currentVersion: VERSION },
    // "--" ends the flags, as in other programs.
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
  },
);
