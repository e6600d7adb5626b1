import { policySettings } from '../../auth/policy.ts';

/** What the application learns of the client, and from nginx alone. */
export const identityHeaders = ['X-Client-Id', 'X-Client-Name', 'X-Auth-Method'] as const;

/** What nginx and the gateway tell each other. */
const internalHeaders = ['X-Auth-Decision', 'X-Auth-Reason', 'X-Decision-Cache', 'X-Client-Address', 'X-Policy'];
const policyHeaders = policySettings.map(
  (setting) =>
    `X-Policy-${setting.replace(/(^|_)([a-z])/g, (_, dash: string, letter: string) => `${dash && '-'}${letter.toUpperCase()}`)}`,
);
export const reservedHeaders: readonly string[] = [...identityHeaders, ...internalHeaders, ...policyHeaders];

/** What lets its own sender in where it is believed. */
const persuasive: Readonly<Record<string, string>> = {
  'X-Client-Id': '1',
  'X-Client-Name': 'admin',
  'X-Auth-Method': 'api_key',
  'X-Auth-Decision': 'granted',
  'X-Auth-Reason': 'granted',
  'X-Client-Address': '127.0.0.1',
  'X-Policy': 'api_keys_enabled=off\trequire_admin=off',
};

export function persuasiveValue(name: string): string {
  return persuasive[name] ?? (name.endsWith('-Enabled') ? 'off' : '');
}

/** How a header can be written so that one program takes it for that header and another does not. */
export const spellings: Readonly<Record<string, (name: string, value: string) => readonly string[]>> = {
  'as they are': (name, value) => [`${name}: ${value}`],
  'small letters': (name, value) => [`${name.toLowerCase()}: ${value}`],
  'capital letters': (name, value) => [`${name.toUpperCase()}: ${value}`],
  underscores: (name, value) => [`${name.replaceAll('-', '_')}: ${value}`],
  'one underscore': (name, value) => [`${name.replace(/-(?=[^-]*$)/, '_')}: ${value}`],
  dots: (name, value) => [`${name.replaceAll('-', '.')}: ${value}`],
  'spaces in the name': (name, value) => [`${name.replaceAll('-', ' ')}: ${value}`],
  'percent signs': (name, value) => [`${name.replaceAll('-', '%2D')}: ${value}`],
  'a space before the colon': (name, value) => [`${name} : ${value}`],
  'a tab before the colon': (name, value) => [`${name}\t: ${value}`],
  'a space before the name': (name, value) => [` ${name}: ${value}`],
  'no space after the colon': (name, value) => [`${name}:${value}`],
  'a folded line before': (name, value) => ['X-Filler: a', `\t${name}: ${value}`],
  'a folded value': (name, value) => [`${name}:`, ` ${value}`],
  twice: (name, value) => [`${name}: ${value}`, `${name}: ${value}`],
  'empty, then with a value': (name, value) => [`${name}:`, `${name}: ${value}`],
  'a carriage return alone': (name, value) => [`X-Filler: a\r${name}: ${value}`],
  'a line feed alone': (name, value) => [`X-Filler: a\n${name}: ${value}`],
  'a NUL in the name': (name, value) => [`${name}\0: ${value}`],
  'a vertical tab before the colon': (name, value) => [`${name}\v: ${value}`],
  'a no-break space (Latin-1)': (name, value) => [`${name}\xa0: ${value}`],
  'a no-break hyphen (UTF-8)': (name, value) => [`${name.replaceAll('-', '\xe2\x80\x91')}: ${value}`],
};
