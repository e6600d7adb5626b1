import { randomBytes } from 'node:crypto';
import type { ConnectionOptions } from 'node:tls';
import {
  requestBytes,
  send,
  type Answer,
  type Exchange,
  type RequestParts,
  type SendOptions,
  type Target,
} from './raw.ts';
import { identityHeaders, reservedHeaders, spellings } from './spellings.ts';
import { judge, judgeAnswer, reasonOf, remedies, type Finding, type Verdict } from './verdict.ts';

export interface Credential {
  /** The whole value of the header. */
  readonly authorization: string;
  /** Of an API key the id before the dot. */
  readonly clientId: string | undefined;
  readonly trust: ConnectionOptions;
}

const identity = 'identity headers, received';
export const keyChecks = [
  identity,
  'the key, received',
  'addresses and hosts, received',
  'after a good key',
  'management with a key',
];
const apiClients = '/v1/management/api-clients';

/** What needs a credential, for every check that is named here the reason why it could not be made. */
export function withoutKey(seen: string): Finding[] {
  return [identity, 'after a good key', 'management with a key'].map((check) => ({
    check,
    what: '',
    result: 'not checked',
    seen,
  }));
}

/** @param echoes paths at which the application answers with what it received; `/` is tried when there are none */
export async function examineWithKey(
  target: Target,
  credential: Credential,
  echoes: readonly string[],
): Promise<Finding[]> {
  const { authorization, trust } = credential;
  const ask = (parts: RequestParts, options: SendOptions = {}) =>
    send(
      target,
      requestBytes(target, { ...parts, lines: [`Authorization: ${authorization}`, ...(parts.lines ?? [])] }),
      {
        ...options,
        trust,
      },
    );
  const [first = '/'] = echoes;
  const { answers, failure } = await ask({ path: first });
  const [answer] = answers;
  if (answer === undefined) return withoutKey(failure ?? 'no answer');
  const reason = reasonOf(answer);
  if (reason !== undefined)
    return withoutKey(`the key is answered with ${answer.status} ${reason}; is it one of this gateway?`);
  const found = await Promise.all([
    ...(echoes.length === 0 ? ['/'] : echoes).map((path) => examineReceived(path, ask, authorization)),
    examineAfterwards(first, target, ask, credential),
    examineManagement(ask, credential),
  ]);
  return found.flat();
}

type Ask = (parts: RequestParts, options?: SendOptions) => ReturnType<typeof send>;

/** What the application says that it has received, when it says so. */
async function examineReceived(path: string, ask: Ask, authorization: string): Promise<Finding[]> {
  const marker = `doctor-${randomBytes(6).toString('hex')}`;
  const at = (what: string) => `${what} at ${path}`;
  const plain = await ask({ path, lines: [`X-Apigw-Doctor: ${marker}`] });
  const echoed = plain.answers[0]?.body ?? '';
  if (!echoed.includes(marker)) {
    const seen = `the application does not answer with what it receives at ${path}: say --echo <path> of one that does`;
    return [{ check: identity, what: '', result: 'not checked', seen }];
  }
  const [secret = ''] = /[^. ]+$/.exec(authorization) ?? [];
  const spoofed = Object.entries(spellings).flatMap(([what, spell]) => {
    const lines = reservedHeaders.flatMap((name, index) => spell(name, `${marker}-${index}-`));
    return ([{ lines }, { before: lines }] satisfies RequestParts[]).map(async (parts, index): Promise<Finding> => ({
      check: identity,
      what: at(index === 0 ? what : `${what}, before Host`),
      ...judgeReceived(await ask({ path, ...parts }), marker),
    }));
  });
  const trailer = `0\r\n${identityHeaders.map((name, index) => `${name}: ${marker}-${index}-\r\n`).join('')}\r\n`;
  const trailers = ask({ path, lines: ['Transfer-Encoding: chunked', 'Trailer: X-Client-Id'], body: trailer });
  const hopByHop = await ask({ path, connection: 'close, X-Client-Id, X-Client-Name, X-Auth-Method' });
  return [
    { check: identity, what: at('who it is'), ...judgeIdentity(plain) },
    { check: identity, what: at('listed in Connection'), ...judgeIdentity(hopByHop) },
    { check: identity, what: at('as a trailer'), ...judgeReceived(await trailers, marker) },
    ...(await Promise.all(spoofed)),
    await examineForwarding(path, ask, marker),
    {
      check: 'the key, received',
      what: at(''),
      ...(secret.length > 20 && echoed.includes(secret)
        ? ({
            result: 'warning',
            seen: 'the application receives the credential',
            remedy: 'Whoever can read its logs can use it: $application_authorization in default.conf',
          } as const)
        : ({ result: 'ok', seen: 'the application does not receive it' } as const)),
    },
  ];
}

function judgeIdentity({ answers: [answer], failure = 'no answer' }: Exchange): Verdict {
  if (answer === undefined) return { result: 'not checked', seen: failure };
  // some print HTTP_X_CLIENT_ID
  const missing = identityHeaders.filter((name) => !new RegExp(name.replaceAll('-', '[-_]'), 'i').test(answer.body));
  if (missing.length === 0) return { result: 'ok', seen: 'arrives' };
  const remedy = 'The application learns of no client: its location must include snippets/proxy.conf';
  return { result: 'wrong', seen: `no ${missing.join(', ')}`, remedy };
}

function judgeReceived({ answers, failure = 'no answer' }: Exchange, marker: string): Verdict {
  const bodies = answers.map(({ body }) => body).join('\n');
  const found = [...bodies.matchAll(new RegExp(`${marker}-(\\d+)-`, 'g'))];
  const names = [...new Set(found.map(([, index]) => reservedHeaders[Number(index)] ?? ''))];
  if (names.length > 0) {
    const rest = names.length > 2 ? ` and ${names.length - 2} more` : '';
    const remedy = 'The application takes for the gateway what a client has written: include snippets/proxy.conf';
    return { result: 'wrong', seen: `${names.slice(0, 2).join(', ')}${rest} arrives`, remedy };
  }
  const [answer] = answers;
  if (answer === undefined) return { result: 'not checked', seen: failure };
  if (answer.status >= 500) return { result: 'not checked', seen: String(answer.status) };
  return {
    result: 'ok',
    seen: answer.status < 400 ? 'does not arrive' : `${answer.status} ${reasonOf(answer) ?? ''}`.trim(),
  };
}

/** An application may decide by these too; a proxy before nginx may have set some of them. */
async function examineForwarding(path: string, ask: Ask, marker: string): Promise<Finding> {
  const names = [
    'X-Forwarded-For',
    'X-Real-IP',
    'Forwarded',
    'X-Forwarded-Host',
    'X-Forwarded-Proto',
    'X-Forwarded-Prefix',
    'X-Original-URL',
    'X-Rewrite-URL',
    'Proxy',
  ];
  const { answers, failure } = await ask({ path, lines: names.map((name, index) => `${name}: ${marker}-${index}-`) });
  const body = answers[0]?.body ?? '';
  const arrived = names.filter((_, index) => body.includes(`${marker}-${index}-`));
  const named = { check: 'addresses and hosts, received', what: `at ${path}` };
  if (body === '') return { ...named, result: 'not checked', seen: failure ?? 'no answer' };
  if (arrived.length === 0) return { ...named, result: 'ok', seen: 'do not arrive' };
  const remedy = 'They are whatever a client has written: include snippets/proxy.conf';
  return { ...named, result: 'warning', seen: `${arrived.join(', ')} arrives`, remedy };
}

/** Whether a good key opens something for what comes beside it or after it. */
async function examineAfterwards(
  path: string,
  target: Target,
  ask: Ask,
  { authorization, trust }: Credential,
): Promise<Finding[]> {
  const check = 'after a good key';
  const good = `Authorization: ${authorization}`;
  const [two, swapped, decision, plain, tunnel, next] = await Promise.all([
    ask({ path, lines: ['Authorization: Bearer junk'] }),
    send(target, requestBytes(target, { path, lines: ['Authorization: Bearer junk', good] }), { trust }),
    ask({ path: '/_apigw/decision' }),
    ask({ path }),
    ask({
      path,
      lines: ['Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA'],
      connection: 'Upgrade, HTTP2-Settings',
    }),
    send(target, requestBytes(target, { path, lines: [good], connection: '' }) + requestBytes(target, { path }), {
      trust,
      expected: 2,
    }),
  ]);
  return [
    { check, what: 'a second header', ...judge(two) },
    { check, what: 'a header before it', ...judge(swapped) },
    { check, what: 'the location of the question', ...judge(decision, 'hidden') },
    { check, what: 'an h2c tunnel', ...judgeTunnel(plain.answers[0], tunnel.answers[0]) },
    { check, what: 'the next request of the connection', ...judgeNext(next) },
  ];
}

function judgeTunnel(plain: Answer | undefined, tunnel: Answer | undefined): Verdict {
  if (plain === undefined || tunnel === undefined) return { result: 'not checked', seen: 'no answer' };
  const isForwarded = tunnel.status !== plain.status || /h2c/i.test(tunnel.body);
  if (!isForwarded) return { result: 'ok', seen: 'not opened' };
  const remedy = 'Upgrade: h2c reaches the application, and nobody is asked within such a tunnel: snippets/proxy.conf';
  return { result: 'wrong', seen: `${tunnel.status} in place of ${plain.status}`, remedy };
}

function judgeNext({ answers: [first, next], failure = 'no answer' }: Exchange): Verdict {
  if (first === undefined) return { result: 'not checked', seen: failure };
  // a server may end the connection instead
  return next === undefined ? { result: 'ok', seen: 'not answered' } : judgeAnswer(next, 'refusal');
}

/** The API itself says whose the key is. Only reads; each leaves an event in the audit trail. */
async function examineManagement(ask: Ask, { clientId }: Credential): Promise<Finding[]> {
  const check = 'management with a key';
  const { answers, failure } = await ask({ path: clientId === undefined ? apiClients : `${apiClients}/${clientId}` });
  const [answer] = answers;
  if (answer === undefined) return [{ check, what: '', result: 'not checked', seen: failure ?? 'no answer' }];
  const reason = reasonOf(answer);
  if (reason !== undefined) {
    const isRefused = answer.status === 403 || answer.status === 401;
    return [{ check, what: '', result: isRefused ? 'ok' : 'not checked', seen: `${answer.status} ${reason}` }];
  }
  if (/"is_admin": ?true/.test(answer.body) || (clientId === undefined && answer.status === 200))
    return [{ check, what: '', result: 'not checked', seen: "the key is an administrator's; try one that is not" }];
  return [{ check, what: '', result: 'wrong', seen: String(answer.status), remedy: remedies.elsewhere }];
}
