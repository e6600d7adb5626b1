import assert from 'node:assert/strict';

/** Edits a setting of default.conf as an operator would: the `default` of its map. */
export function setSettings(conf: string, settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings).reduce((text, [name, value]) => {
    const pattern = new RegExp(`^(map \\$server_name \\$${name}\\s*\\{[^}]*?default )[^;]*;`, 'm');
    assert.match(text, pattern, `default.conf has no setting ${name}`);
    return text.replace(pattern, (_, head: string) => `${head}${JSON.stringify(value)};`);
  }, conf);
}

/** One more HTTPS server with the shipped lines, and settings of its own beside the defaults. */
export function addServer(conf: string, name: string, settings: Readonly<Record<string, string>>): string {
  const text = Object.entries(settings).reduce((edited, [setting, value]) => {
    const pattern = new RegExp(`^(map \\$server_name \\$${setting}\\s*\\{[^}]*?default [^;]*;)`, 'm');
    assert.match(edited, pattern, `default.conf has no setting ${setting}`);
    return edited.replace(pattern, (head) => `${head} "${name}" ${JSON.stringify(value)};`);
  }, conf);
  return `${text}
server {
  include runtime/listen-https.conf;
  server_name ${name};
  include snippets/gateway.conf;

  location / {   # protected
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
}
`;
}

/** Puts location blocks before the catch-all of the HTTPS server. */
export function addLocations(conf: string, locations: string): string {
  return conf.replace('  location / {   # protected', () => `${locations}\n  location / {   # protected`);
}

/** A location that asks the gateway with these headers, beside the server's policy or in its place. */
export function locationWithPolicy(name: string, headers: Readonly<Record<string, string>>, basis = 'server'): string {
  const lines = Object.entries(headers).map(
    ([header, value]) => `    proxy_set_header X-Policy-${header} '${value}';\n`,
  );
  return `
  location = /_apigw/decision/${name} {
    include snippets/decision.conf;
    ${basis === 'server' ? 'include snippets/policy.conf;' : ''}
${lines.join('')}  }
  location /${name}/ {   # protected
    auth_request /_apigw/decision/${name};
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
`;
}

/** The example of default.conf that begins so, a block or one directive, as it is when its comment signs are removed. */
export function example(conf: string, head: string): string {
  const start = conf.indexOf(`  # ${head}`);
  assert.ok(start >= 0, `default.conf has no example ${head}`);
  const last = head.endsWith(';') ? '\n' : '  # }\n';
  const end = conf.indexOf(last, start) + last.length;
  return conf.slice(start, end).replace(/^ {2}# /gm, '  ');
}
