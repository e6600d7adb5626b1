import assert from 'node:assert/strict';

/** Edits a setting of default.conf as an operator would: the `default` of its map. */
export function setSettings(conf: string, settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings).reduce((text, [name, value]) => {
    const pattern = new RegExp(`^(map \\$server_name \\$${name}\\s*\\{[^}]*?default )[^;]*;`, 'm');
    assert.match(text, pattern, `default.conf has no setting ${name}`);
    return text.replace(pattern, (_, head: string) => `${head}${JSON.stringify(value)};`);
  }, conf);
}

/** Puts location blocks before the catch-all of the HTTPS server. */
export function addLocations(conf: string, locations: string): string {
  return conf.replace('  location / {   # protected', () => `${locations}\n  location / {   # protected`);
}

/** The example of default.conf that begins with this line, as it is when its comment signs are removed. */
export function example(conf: string, head: string): string {
  const start = conf.indexOf(`  # ${head}`);
  assert.ok(start >= 0, `default.conf has no example ${head}`);
  const end = conf.indexOf('  # }\n', start) + '  # }\n'.length;
  return conf.slice(start, end).replace(/^ {2}# /gm, '  ');
}
