import { parseApiKey, type ApiKeyCredential } from './api-key.ts';

/** What a request presents, by its shape alone; nothing here has been verified. */
export type Credential =
  | { readonly scheme: 'none' }
  | { readonly scheme: 'malformed' }
  | { readonly scheme: 'unsupported' }
  | { readonly scheme: 'bearer'; readonly token: string }
  | ApiKeyCredential;

const none: Credential = { scheme: 'none' };
const malformed: Credential = { scheme: 'malformed' };
const unsupported: Credential = { scheme: 'unsupported' };

// RFC 9110 11.4: auth-scheme, spaces, then token68 for both of our schemes
const credentialPattern = /^([A-Za-z0-9!#$%&'*+.^_`|~-]+) +([A-Za-z0-9._~+/-]+=*)$/;

/**
 * Reads the value of the one `Authorization` header (RFC 9110 11.6.2). The scheme's name is case-insensitive; whatever
 * follows must be exactly one credential.
 */
export function parseCredential(authorization: string | undefined): Credential {
  if (authorization === undefined || authorization === '') return none;
  const [, scheme, value] = credentialPattern.exec(authorization) ?? [];
  if (scheme === undefined || value === undefined) return malformed;
  switch (scheme.toLowerCase()) {
    case 'apk':
      return parseApiKey(value) ?? malformed;
    case 'bearer':
      return { scheme: 'bearer', token: value };
    default:
      return unsupported;
  }
}
