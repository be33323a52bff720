import { PROFILE_PAGES } from "@tulle/telemetry/profiling";

/** The page at `/`: what the admin port offers. No script and no style from elsewhere: it must work anywhere. */

const ENDPOINTS: readonly (readonly [path: string, method: string, what: string])[] = [
  ["/config_dump", "GET", "everything this ztunnel knows: workloads, services, policies, certificates, connections"],
  [
    "/explain?src=NAMESPACE/POD&dst=HOST:PORT",
    "GET",
    "why a connection would be plain, encrypted, redirected or denied",
  ],
  ["/logging", "POST", "show or change what is logged: ?level=debug, ?level=access=off,xds=debug, ?reset"],
  ["/quitquitquit", "POST", "end gracefully"],
  ...PROFILE_PAGES.map(([path, help]) => [path, "GET", help] as const),
];

export function dashboard(version: string): string {
  const rows = ENDPOINTS.map(([path, method, what]) => {
    const shown = escapeHtml(path);
    const link = method === "GET" ? `<a href="${shown}">${shown}</a>` : shown;
    return `<tr><td>${method}</td><td>${link}</td><td>${escapeHtml(what)}</td></tr>`;
  });
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>ztunnel</title>
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem}td{padding:.2rem 1rem .2rem 0;vertical-align:top}</style></head>
<body><h1>ztunnel</h1><p>${escapeHtml(version)}</p>
<table>
${rows.join("\n")}
</table></body>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
