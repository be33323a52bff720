import { type Check, either, ignored, integer, list, mapOf, object, string } from "./schema.ts";

/** Fields that many kinds share. */

const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
export const PORT_NAME = /^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;

export const labelName = string(DNS_LABEL, "is not a valid name: lower-case letters, digits and dashes, at most 63");
export const subdomainName = string(DNS_SUBDOMAIN, "is not a valid name: lower-case letters, digits, dashes and dots");
export const portNumber = integer(1, 65535);
export const port = either(
  "must be a port number from 1 to 65535 or the name of a port",
  portNumber,
  string(PORT_NAME),
);
export const strings = list(string());
export const labels = mapOf(string());
export const selector = object({ matchLabels: labels });

/** Some labels ask for what is not there yet: taking them silently would let traffic past a waypoint. */
export const meshLabels: Check = (value, path, report) => {
  labels(value, path, report);
  for (const name of Object.keys(value ?? {})) {
    if (name.startsWith("istio.io/use-waypoint")) {
      report([...path, name], "asks for a waypoint; the local mesh has none yet");
    } else if (name === "networking.istio.io/tunnel") {
      report([...path, name], "is not supported by the local mesh: remove it");
    }
  }
};

/** Some annotations change what is captured. */
export const annotations: Check = (value, path, report) => {
  labels(value, path, report);
  for (const name of Object.keys(value ?? {})) {
    if (
      /^(ambient|sidecar|traffic\.sidecar)\.istio\.io\/|^istio\.io\/(reroute|dry-run)|(^|\.)tulle\.dev\//.test(name)
    ) {
      report([...path, name], "is not supported by the local mesh: remove it");
    }
  }
};

/** `metadata` of an object; what the API server writes there is without effect. */
export function metadata(name: Check, namespaced: boolean): Check {
  return object(
    {
      name,
      ...(namespaced ? { namespace: labelName } : {}),
      labels: meshLabels,
      annotations,
      uid: ignored,
      resourceVersion: ignored,
      generation: ignored,
      creationTimestamp: ignored,
      managedFields: ignored,
    },
    ["name"],
  );
}
