/** Anything shaped like an API key (`.` may be escaped, as in a path) or a JWT. */
const credentialShapes = /[1-9][0-9]{0,18}(?:\.|%2E)[A-Za-z0-9]{64}|eyJ[\w-]+\.[\w-]+\.[\w-]+/gi;

/** The text without the credentials in it. */
export function redact(text: string): string {
  return text.replace(credentialShapes, '[redacted]');
}
