const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----/g;

/** The base64 line length of RFC 7468. */
const LINE = /.{1,64}/g;

/** DER as PEM with a final newline. */
export function toPem(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der).toString("base64").match(LINE) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** The DER of every block with this label, in order; other blocks and text between blocks are passed over. */
export function fromPem(label: string, pem: string): Buffer[] {
  return [...pem.matchAll(BLOCK)]
    .filter((block) => block[1] === label)
    .map((block) => Buffer.from(block[2] ?? "", "base64"));
}
