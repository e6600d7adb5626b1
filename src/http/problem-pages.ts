import { hash } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import Router from '@koa/router';
import { Problem, typeOf } from '../problem.ts';
import { isReason, reasons, type Reason } from '../reasons.ts';
import type { ManagementState } from './management-app.ts';

const style = `
:root { color-scheme: light dark; font: 17px/1.55 system-ui, sans-serif; }
body { max-width: 42rem; margin: 3rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 0; } p { margin: .3rem 0; }
code { font: .92em ui-monospace, monospace; background: color-mix(in srgb, currentColor 9%, transparent); padding: .1em .3em; border-radius: .25em; }
a { color: inherit; } .status { opacity: .7; } li { margin: .3rem 0; }
`;

/** Plain pages without any script, which nobody else may frame. */
export const pageHeaders = {
  'Content-Security-Policy': `default-src 'none'; style-src 'sha256-${hash('sha256', style, 'base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

/** What the `type` of a problem leads to: a page for each reason, for anybody. Nothing in it is secret. */
export function createProblemPages(): Router<ManagementState> {
  const router = new Router<ManagementState>({ prefix: '/v1/management' });

  router.get('/problems', (context) => {
    const items = Object.entries(reasons).map(
      ([code, { status, meaning }]) =>
        `<li><a href="${typeOf(code)}"><code>${code}</code></a> <span class="status">${status}</span> ${toHtml(meaning)}</li>`,
    );
    context.set(pageHeaders);
    context.type = 'html';
    context.body = page('Reasons of problems', `<h1>Reasons of problems</h1><ul>${items.join('\n')}</ul>`);
  });

  router.get('/problems/:reason', (context) => {
    const code = context.params['reason'] ?? '';
    if (!isReason(code)) throw new Problem(404, 'unknown_reason', 'No problem has this reason.');
    const { status, meaning, remedy }: Reason = reasons[code];
    context.set(pageHeaders);
    context.type = 'html';
    context.body = page(
      code,
      `<p class="status">${status} ${STATUS_CODES[status] ?? ''}</p><h1><code>${code}</code></h1>
<h2>What it means</h2><p>${toHtml(meaning)}</p>
<h2>What to do</h2><p>${toHtml(remedy)}</p>
<h2>To see more</h2><p>Administrators: <code>apigw explain &lt;request id&gt;</code> says what was expected and what was seen. The
id is in the problem, in the header <code>X-Request-Id</code>, and in both logs.</p>
<p><a href="${typeOf('')}">All reasons</a></p>`,
    );
  });

  return router;
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>${style}</style></head><body>
${body}
</body></html>
`;
}

/** Text with \`code\` in backticks. */
function toHtml(text: string): string {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return escaped.replace(/`([^`]*)`/g, '<code>$1</code>');
}
