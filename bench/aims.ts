import type { Aim } from "./report.ts";

/** What Tulle is to reach; each against the HAProxy pair unless it says otherwise. */
export const AIMS: readonly Aim[] = [
  { figure: "bulk-1-server", against: "haproxy", factor: 1.7 },
  { figure: "bulk-1-client", against: "haproxy", factor: 1.7 },
  { figure: "bulk-8-server", against: "haproxy", factor: 1.7 },
  { figure: "bulk-8-client", against: "haproxy", factor: 1.7 },
  { figure: "requests-1-p50", against: "haproxy", factor: 1 },
  { figure: "requests-1-p99", against: "itself", other: "requests-1-p50", factor: 2 },
  { figure: "requests-32", against: "haproxy", factor: 1.7 },
  { figure: "requests-100", against: "haproxy", factor: 1.7 },
  { figure: "requests-100-p99", against: "direct", factor: 3 },
  { figure: "opening", against: "haproxy", factor: 6 },
  { figure: "memory-loaded", against: "absolute", factor: 110 },
];
