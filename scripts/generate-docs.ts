// `npm run docs`: writes the documents that are made from tables of the program. A test says when they are not current.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { STATUS_CODES } from 'node:http';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { createOpenApiDocument } from '../src/http/openapi/document.ts';
import { reasons, type Reason } from '../src/reasons.ts';
import { settingsPage } from './settings-page.ts';

const root = join(import.meta.dirname, '..');
const table: readonly (readonly [code: string, reason: Reason])[] = Object.entries(reasons);

/** Their paths in the repository, and their text. */
export function generatedDocs(): Readonly<Record<string, string>> {
  const pages = table.map(([code, reason]) => [`docs/reasons/${code}.md`, reasonPage(code, reason)] as const);
  return {
    'docs/openapi.json': `${JSON.stringify(createOpenApiDocument(), null, 2)}\n`,
    'docs/reasons.md': reasonIndex(),
    'docs/settings.md': settingsPage(root),
    ...Object.fromEntries(pages),
  };
}

function reasonIndex(): string {
  const rows = table.map(([code, { status, toldAs, meaning }]) => {
    const told = toldAs === undefined ? '' : `, told as \`${toldAs}\``;
    return `| [\`${code}\`](reasons/${code}.md) | ${status}${told} | ${meaning.replaceAll('|', '\\|')} |`;
  });
  return `<!-- made by npm run docs from src/reasons.ts -->

# Why a request was refused

The \`reason\` of a problem is also in nginx's access log (\`auth_reason\`) and, with the same \`request_id\`, in the gateway's. Its \`type\`
leads to the page of the reason, which the gateway itself serves, \`/v1/management/problems/<reason>\`. With the request id an
administrator learns what was expected and what was seen: \`apigw explain <request id>\`.

A reason that is "told as" another one is for logs and metrics alone: whoever has found a credential need not learn more. For access tokens
the sentence is in \`X-jwt-error\` and in \`WWW-Authenticate\` too; the gateway's log has \`Invalid token: <reason>\` with issuer and key id, never
the token.

| reason | status | what it means |
|---|---|---|
${rows.join('\n')}
`;
}

function reasonPage(code: string, { status, toldAs, meaning, remedy }: Reason): string {
  const told =
    toldAs === undefined
      ? ''
      : `\nThe client is told [\`${toldAs}\`](${toldAs}.md) instead: whoever has found a credential need not learn more.\n`;
  return `<!-- made by npm run docs from src/reasons.ts -->

# \`${code}\`

${status} ${STATUS_CODES[status] ?? ''}

## What it means

${meaning}
${told}
## What to do

${remedy}

[All reasons](../reasons.md) · [When something is wrong](../operations.md)
`;
}

if (import.meta.filename === process.argv[1]) {
  rmSync(join(root, 'docs/reasons'), { recursive: true, force: true });
  for (const [path, text] of Object.entries(generatedDocs())) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}
