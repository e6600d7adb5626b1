import type { Lifetime } from '../auth/decision.ts';

/**
 * What tells the holder of a key that another has taken its place: since when (`Deprecation`, RFC 9745) and until when this
 * one is good (`Sunset`, RFC 8594). No headers for any other credential.
 */
export function replacementHeaders({ replacedAt, expiresAt }: Lifetime): Readonly<Record<string, string>> {
  if (replacedAt === null) return {};
  return {
    Deprecation: `@${Math.floor(replacedAt / 1_000)}`,
    ...(expiresAt !== null && { Sunset: new Date(expiresAt).toUTCString() }),
  };
}
