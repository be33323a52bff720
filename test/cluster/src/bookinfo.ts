import { readFileSync } from "node:fs";
import { join } from "node:path";

const SAMPLE = join(import.meta.dirname, "..", "..", "..", "samples", "bookinfo");
/** Its namespace and its policies are left to the test. */
const SERVICES = ["details", "productpage", "ratings", "reviews"] as const;

export const BOOKINFO_DEPLOYMENTS = [
  "details-v1",
  "productpage-v1",
  "ratings-v1",
  "reviews-v1",
  "reviews-v2",
  "reviews-v3",
] as const;

/** The sample's services as YAML, for another namespace than its own. */
export function bookinfo(namespace: string): string {
  const files = SERVICES.map((name) => readFileSync(join(SAMPLE, `${name}.yaml`), "utf8"));
  return files
    .join("\n---\n")
    .replaceAll("namespace: bookinfo", `namespace: ${namespace}`)
    .replaceAll(/image: bookinfo\/(\w+):v\d/g, "image: docker.io/tulle/sample-bookinfo:0.1.0\n        args: [$1]");
}
