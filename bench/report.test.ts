import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIperf, parseWrk } from "./load.ts";
import { formatNumber, formatReport, median, type Result } from "./report.ts";

test("the median is the middle value, or the mean of two", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(median([]), undefined);
});

test("numbers keep three digits", () => {
  assert.deepEqual([0.12345, 5.678, 56.78, 567.8, 12345.6].map(formatNumber), [
    "0.123",
    "5.68",
    "56.8",
    "568",
    "12,346",
  ]);
  assert.equal(formatNumber(undefined), "–");
});

test("the table has medians, ratios, aims reached and missed, and what is missing", () => {
  const result = (name: string, values: readonly number[], failure?: string): Result => ({
    name,
    title: name,
    samples: values.map((rate) => ({ rate, delay: rate / 10 })),
    failure,
  });
  const figures = [
    { key: "rate", title: "rate", unit: "/s", lower: false },
    { key: "delay", title: "delay", unit: "ms", lower: true },
  ];
  const table = formatReport(
    [result("direct", [100, 90, 500]), result("haproxy", [], "did not start: gone"), result("tulle", [40, 60, 50])],
    figures,
    [
      { figure: "rate", against: "haproxy", factor: 2 },
      { figure: "delay", against: "direct", factor: 0.4 },
    ],
  );
  assert.equal(
    table,
    [
      "|  | direct | haproxy | tulle | Tulle ÷ haproxy | Tulle ÷ direct | aim |",
      "| --- | --: | --: | --: | --: | --: | --: |",
      "| rate, /s | 100 | – | 50 | – | 0.50 × | ≥ 2 × haproxy |",
      "| delay, ms | 10 | – | 5 | – | 0.50 × | ≤ 0.4 × direct ✗ |",
      "",
      "Missing:",
      "- haproxy: did not start: gone",
    ].join("\n"),
  );
});

test("wrk's output is read, and failed requests are no result", () => {
  const output = `Running 1s test @ http://10.77.0.2:80/
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.21ms    2.75ms  40.01ms   92.11%
  Latency Distribution
     50%  812.00us
     75%    1.03ms
     90%    1.90ms
     99%    1.20s
  41234 requests in 1.10s, 6.02MB read
Requests/sec:  37485.45
Transfer/sec:      5.47MB
`;
  assert.deepEqual(parseWrk(output), { perSecond: 37485.45, count: 41234, p50Ms: 0.812, p99Ms: 1200 });
  assert.throws(() => parseWrk(`${output}  Socket errors: connect 0, read 3, write 0, timeout 0\n`), /read 3/);
  assert.throws(() => parseWrk("unable to connect"), /no result/);
});

test("iperf3's output is read, and its error is told", () => {
  const text = JSON.stringify({ end: { sum_received: { bits_per_second: 2.5e9, bytes: 1000 } } });
  assert.deepEqual(parseIperf(text), { gigabitsPerSecond: 2.5, bytes: 1000 });
  assert.throws(() => parseIperf('{"error": "the server is busy"}'), /busy/);
});
