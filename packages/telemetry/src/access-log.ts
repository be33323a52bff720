import type { LogLevel } from "@tulle/base";
import type { AccessEvent, AccessRecord } from "./contract.ts";
import { jsonHead, type LogFormat, plainHead, quote } from "./log-line.ts";

/** The access log of a connection (spec: l4-ztunnel §9.5). */

export const ACCESS_SCOPE = "access";

const MESSAGES: Readonly<Record<AccessEvent, string>> = {
  complete: "connection complete",
  opened: "connection opened",
  failed: "connection failed",
};

export function accessLevel(event: AccessEvent, failed: boolean): LogLevel {
  switch (event) {
    case "complete":
      return failed ? "error" : "info";
    case "opened":
      return "debug";
    case "failed":
      return "warn";
    default:
      return event satisfies never;
  }
}

/** One line with its line feed. Undefined values are left out. */
export function formatAccess(format: LogFormat, time: string, record: AccessRecord): string {
  const level = accessLevel(record.event, record.error !== undefined);
  const message = MESSAGES[record.event];
  if (format === "json") {
    const fields = new JsonFields();
    writeFields(fields, record);
    return `${jsonHead(time, level, ACCESS_SCOPE, message)}${fields.text}}\n`;
  }
  const fields = new PlainFields();
  writeFields(fields, record);
  // The separator before the first field is the tab that the head ends in.
  return `${plainHead(time, level, ACCESS_SCOPE, message)}${fields.text.slice(1)}\n`;
}

interface FieldSink {
  address(key: string, value: string | undefined): void;
  string(key: string, value: string | undefined): void;
  number(key: string, value: number | undefined): void;
}

class PlainFields implements FieldSink {
  text = "";

  address(key: string, value: string | undefined): void {
    if (value === undefined) return;
    // An authority is what a peer sent: one that is no address is quoted, so that it cannot pass for other fields.
    this.text += ` ${key}=${BARE.test(value) ? value : quote(value)}`;
  }

  string(key: string, value: string | undefined): void {
    if (value !== undefined) this.text += ` ${key}=${quote(value)}`;
  }

  number(key: string, value: number | undefined): void {
    if (value !== undefined) this.text += ` ${key}=${value}`;
  }
}

class JsonFields implements FieldSink {
  text = "";

  address(key: string, value: string | undefined): void {
    this.string(key, value);
  }

  string(key: string, value: string | undefined): void {
    if (value !== undefined) this.text += `,"${key}":${JSON.stringify(value)}`;
  }

  number(key: string, value: number | undefined): void {
    if (value !== undefined) this.text += `,"${key}":${value}`;
  }
}

const BARE = /^[\w.:[\]*-]+$/;

function writeFields(to: FieldSink, record: AccessRecord): void {
  const outbound = record.direction === "outbound";
  to.address("src.addr", record.sourceAddress);
  to.string("src.workload", record.sourceWorkload);
  to.string("src.namespace", record.sourceNamespace);
  to.string("src.identity", record.sourceIdentity);
  to.string("src.cluster", record.sourceCluster);
  to.address("dst.addr", record.destinationAddress);
  to.address("dst.hbone_addr", record.hboneAddress);
  to.string("dst.service", record.destinationService);
  to.string("dst.workload", record.destinationWorkload);
  to.string("dst.namespace", record.destinationNamespace);
  to.string("dst.identity", record.destinationIdentity);
  to.string("dst.cluster", record.destinationCluster);
  to.string("direction", record.direction);
  // Sent and received as the local pod sees them, unlike the metrics.
  to.number("bytes_sent", outbound ? record.bytesFromClient : record.bytesFromServer);
  to.number("bytes_recv", outbound ? record.bytesFromServer : record.bytesFromClient);
  to.string("duration", record.durationMs === undefined ? undefined : `${Math.floor(record.durationMs)}ms`);
  to.string("error", record.error);
}
