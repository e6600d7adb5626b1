/** Seconds in each unit of time that may be written. */
export const secondsIn = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

/** Seconds of a text such as 90, 30s, 15m, 24h or 7d; undefined for anything else. */
export function parseSeconds(text: string): number | undefined {
  const [, digits, unit] = /^([0-9]{1,9})([smhd]?)$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * secondsIn[(unit || 's') as keyof typeof secondsIn];
}
