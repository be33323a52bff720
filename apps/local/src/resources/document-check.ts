import type { DocumentCheck } from "@tulle/store/directory";
import { checkOf, isKind, KINDS } from "./fields.ts";
import { findings, formatPath, isRecord } from "./schema.ts";

/** What schemas are on a cluster: one document by itself, field by field. */
export const checkDocument: DocumentCheck = (value, report) => {
  if (!isRecord(value)) return report([], "must be a Kubernetes object");
  const { kind } = value;
  if (!isKind(kind)) {
    const said =
      kind === undefined ? "must have a kind" : `kind ${JSON.stringify(kind)} is not supported by the local mesh`;
    return report(["kind"], `${said} (it knows ${KINDS.join(", ")})`);
  }
  const name = isRecord(value.metadata) && typeof value.metadata.name === "string" ? ` ${value.metadata.name}` : "";
  for (const { path, message } of findings(value, checkOf(kind)))
    report(path, `${kind}${name}: ${[formatPath(path), message].join(" ").trim()}`);
};
