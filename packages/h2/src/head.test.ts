import assert from "node:assert/strict";
import { test } from "node:test";
import { checkTrailers, Malformed, parseRequest, parseResponse } from "./head.ts";

type Fields = [string, string][];
const GET: Fields = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "example.com"],
];
const without = (name: string): Fields => GET.filter(([n]) => n !== name);
const replaced = (name: string, value: string): Fields => GET.map(([n, v]) => [n, n === name ? value : v]);

const MALFORMED_REQUESTS: readonly (readonly [what: string, fields: Fields])[] = [
  ["an upper-case name (§8.2.1)", [...GET, ["X-Test", "1"]]],
  ["an empty name", [...GET, ["", "1"]]],
  ["a name with a space", [...GET, ["x test", "1"]]],
  ["a name with a colon inside", [...GET, ["x:test", "1"]]],
  ["a value with NUL", [...GET, ["x", "a\0b"]]],
  ["a value with CR", [...GET, ["x", "a\rb"]]],
  ["a value with LF", [...GET, ["x", "a\nb"]]],
  ["a value that begins with a space", [...GET, ["x", " a"]]],
  ["a value that ends with a tab", [...GET, ["x", "a\t"]]],
  ["an unknown pseudo header (§8.3)", [...GET, [":test", "1"]]],
  ["a response's pseudo header (§8.3)", [...GET, [":status", "200"]]],
  ["a pseudo header behind a field (§8.3)", [...without(":path"), ["x", "1"], [":path", "/"]]],
  ["a pseudo header twice (§8.3)", [[":method", "GET"], ...GET]],
  ["no :method (§8.3.1)", without(":method")],
  ["no :scheme", without(":scheme")],
  ["no :path", without(":path")],
  ["an empty :path", replaced(":path", "")],
  ["a :path that does not begin with a slash", replaced(":path", "x")],
  ["an asterisk for something else than OPTIONS", replaced(":path", "*")],
  ["a :path with a space", replaced(":path", "/a b")],
  ["a :method that is no token", replaced(":method", "G T")],
  ["an :authority with user information", replaced(":authority", "me@example.com")],
  ["connection (§8.2.2)", [...GET, ["connection", "close"]]],
  ["keep-alive", [...GET, ["keep-alive", "1"]]],
  ["proxy-connection", [...GET, ["proxy-connection", "close"]]],
  ["transfer-encoding", [...GET, ["transfer-encoding", "chunked"]]],
  ["upgrade", [...GET, ["upgrade", "h2c"]]],
  ["te with anything but trailers", [...GET, ["te", "trailers, deflate"]]],
  ["host that differs from :authority (§8.3.1)", [...GET, ["host", "other.com"]]],
  ["host twice", [...GET, ["host", "example.com"], ["host", "example.com"]]],
  ["content-length that is no number", [...GET, ["content-length", "1x"]]],
  ["a negative content-length", [...GET, ["content-length", "-1"]]],
  ["content-lengths that differ", [...GET, ["content-length", "1"], ["content-length", "2"]]],
  [
    "CONNECT with :path (§8.5)",
    [
      [":method", "CONNECT"],
      [":authority", "a:1"],
      [":path", "/"],
    ],
  ],
  [
    "CONNECT with :scheme (§8.5)",
    [
      [":method", "CONNECT"],
      [":authority", "a:1"],
      [":scheme", "http"],
    ],
  ],
  ["extended CONNECT that was not announced", [...replaced(":method", "CONNECT"), [":protocol", "websocket"]]],
];

for (const [what, fields] of MALFORMED_REQUESTS) {
  test(`a request with ${what} is malformed`, () => {
    assert.ok(parseRequest(fields, false) instanceof Malformed);
  });
}

const GOOD_REQUESTS: readonly (readonly [what: string, fields: Fields])[] = [
  ["te: trailers", [...GET, ["te", "trailers"]]],
  ["host instead of :authority", [...without(":authority"), ["host", "example.com"]]],
  ["host equal to :authority but for case", [...GET, ["host", "Example.com"]]],
  [
    "OPTIONS *",
    [
      [":method", "OPTIONS"],
      [":scheme", "http"],
      [":path", "*"],
    ],
  ],
  ["an empty value", [...GET, ["x", ""]]],
  ["a value with octets above 127 and inner white space", [...GET, ["x", "\xe4 \t b"]]],
  ["the same content-length twice", [...GET, ["content-length", "1"], ["content-length", "1"]]],
  [
    "classic CONNECT",
    [
      [":method", "CONNECT"],
      [":authority", "10.0.0.1:80"],
    ],
  ],
  ["CONNECT without :authority: its handler answers 400", [[":method", "CONNECT"]]],
];

for (const [what, fields] of GOOD_REQUESTS) {
  test(`a request with ${what} is accepted`, () => {
    assert.ok(!(parseRequest(fields, false) instanceof Malformed));
  });
}

test("a request's parts are taken apart", () => {
  assert.deepEqual(parseRequest([...GET, ["content-length", "12"], ["x", "y"]], false), {
    method: "GET",
    scheme: "http",
    authority: "example.com",
    path: "/",
    protocol: undefined,
    fields: [
      ["content-length", "12"],
      ["x", "y"],
    ],
    contentLength: 12,
  });
});

test("extended CONNECT is accepted where it was announced", () => {
  const head = parseRequest([...replaced(":method", "CONNECT"), [":protocol", "websocket"]], true);
  assert.ok(!(head instanceof Malformed));
  assert.equal(head.protocol, "websocket");
});

test("responses: a status of three digits, no other pseudo header, never 101", () => {
  assert.deepEqual(parseResponse([[":status", "204"]]), { status: 204, fields: [], contentLength: undefined });
  const malformed: Fields[] = [
    [],
    [[":status", "20"]],
    [[":status", "abc"]],
    [[":status", "101"]],
    [
      [":status", "200"],
      [":path", "/"],
    ],
  ];
  for (const fields of malformed) assert.ok(parseResponse(fields) instanceof Malformed, JSON.stringify(fields));
});

test("trailers hold no pseudo header", () => {
  assert.equal(checkTrailers([["grpc-status", "0"]]), undefined);
  assert.ok(checkTrailers([[":status", "200"]]) instanceof Malformed);
});
