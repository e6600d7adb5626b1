import { CliError, exitCodes } from './exit-codes.ts';
import { policySettings } from '../auth/policy.ts';

/**
 * What a server of a default.conf accepts, as the headers that nginx would send: the `map $server_name` blocks at its top.
 *
 * @param host the server; undefined for the `default` of each setting
 * @throws {CliError} when the file has no such blocks
 */
export function policyHeadersOf(conf: string, host: string | undefined): Record<string, string> {
  const values = new Map<string, string>();
  for (const [, name = '', block = ''] of conf.matchAll(/^map\s+\$server_name\s+\$(\w+)\s*\{([^}]*)\}/gm)) {
    const lines = [
      ...block.matchAll(/^\s*("(?:[^"\\]|\\.)*"|[^\s#;]+)\s+("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;]*)\s*;/gm),
    ];
    const entries = new Map(lines.map(([, key = '', value = '']) => [unquote(key), unquote(value)]));
    values.set(name, (host === undefined ? undefined : entries.get(host)) ?? entries.get('default') ?? '');
  }
  if (values.size === 0) throw new CliError('The file has no settings: no map $server_name block.', exitCodes.usage);
  return {
    'X-Policy': policySettings.map((name) => `${name}=${values.get(name) ?? ''}`).join('\t'),
  };
}

function unquote(text: string): string {
  return /^["']/.test(text) ? text.slice(1, -1).replace(/\\(["'\\])/g, '$1') : text;
}
