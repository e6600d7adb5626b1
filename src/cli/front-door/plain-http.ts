import { madeUpKey, type Paths } from './attempts.ts';
import { requestBytes, send, targetOf, type Answer, type Exchange, type RequestParts, type Target } from './raw.ts';
import { reasonOf, worst, type Finding, type Verdict } from './verdict.ts';

const check = 'plain HTTP';
const inClear = 'Credentials would pass in clear: include snippets/redirect-to-https.conf, and nothing else';

/** The side without TLS may send everybody away, or not be there. */
export async function examinePlainHttp(
  url: URL,
  tlsTarget: Target,
  http: URL | undefined,
  paths: Paths,
): Promise<Finding[]> {
  const beside = await examineTlsPort(tlsTarget);
  if (http === undefined && url.port !== '') {
    const seen = `which port it is does not follow from ${url.host}: say --http http://${url.hostname}:80, or its port`;
    return [beside, { check, what: '', result: 'not checked', seen }];
  }
  // all at once, so that one that says nothing is not waited for again and again
  const target = targetOf(http ?? new URL(`http://${url.hostname}`), tlsTarget.patience);
  const exchanges = attempts(target, paths).map(async ([what, parts]): Promise<Finding> => {
    const exchange = await send(target, requestBytes(target, parts));
    return { check, what, ...judgeInClear(exchange, http === undefined) };
  });
  return [beside, ...(await Promise.all(exchanges))];
}

function attempts(target: Target, { protected: more, open }: Paths): [string, RequestParts][] {
  const webSocket = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: ZG9jdG9yIGRvY3RvciEhIQ=='];
  const paths = [
    '/',
    '/livez',
    '/v1/management/api-clients',
    '/_apigw/decision',
    '/metrics',
    '/.well-known/acme-challenge/x',
  ];
  return [
    ...[...new Set([...paths, ...more, ...open])].map((path): [string, RequestParts] => [`GET ${path}`, { path }]),
    ['a made-up key', { lines: [`Authorization: apk ${madeUpKey()}`] }],
    ['OPTIONS', { method: 'OPTIONS' }],
    ['PROPFIND', { method: 'PROPFIND' }],
    ['another Host', { host: 'apigw-doctor.invalid' }],
    ['HTTP/1.0 without Host', { version: 'HTTP/1.0', host: null }],
    ['an absolute target', { path: `http://${target.authority}/` }],
    ['WebSocket', { lines: webSocket, connection: 'Upgrade' }],
    ['X-Forwarded-Proto: https', { lines: ['X-Forwarded-Proto: https', 'X-Forwarded-SSL: on'] }],
  ];
}

function judgeInClear({ answers, failure = '', hasContinued }: Exchange, isGuess: boolean): Verdict {
  if (hasContinued) return { result: 'wrong', seen: '100 Continue', remedy: inClear };
  if (answers.length > 0) return worst(answers.map(judgeAnswerInClear));
  // of a port that the operator has named somebody is expected
  if (isGuess && /ECONNREFUSED/.test(failure)) return { result: 'ok', seen: 'nobody listens on port 80' };
  return { result: 'not checked', seen: failure || 'no answer', remedy: 'Is --http its plain HTTP side?' };
}

function judgeAnswerInClear(answer: Answer): Verdict {
  const { status, headers, body } = answer;
  const location = headers['location'] ?? '';
  if (status >= 300 && status < 400 && /^https:\/\//i.test(location))
    return { result: 'ok', seen: `${status} to https` };
  const reason = reasonOf(answer);
  if (status === 401 || headers['www-authenticate'] !== undefined)
    return {
      result: 'wrong',
      seen: `${status} ${reason ?? ''}`.trim(),
      remedy: `It asks for a credential. ${inClear}`,
    };
  const isNginx = reason !== undefined || /<center>nginx\b/.test(body) || body === '';
  if (status >= 400 && status < 500 && isNginx) return { result: 'ok', seen: `${status} of nginx` };
  const seen = status === 0 ? 'an answer without a status' : String(status);
  return { result: 'wrong', seen: location === '' ? seen : `${seen} to ${location}`, remedy: inClear };
}

async function examineTlsPort(target: Target): Promise<Finding> {
  const what = 'HTTP to the TLS port';
  const exchange = await send({ ...target, isTls: false }, requestBytes(target, {}));
  const [answer] = exchange.answers;
  if (answer === undefined)
    return exchange.isRefused
      ? { check, what, result: 'ok', seen: 'the connection is closed' }
      : { check, what, result: 'not checked', seen: exchange.failure ?? 'no answer' };
  if (answer.status === 400) return { check, what, result: 'ok', seen: '400' };
  // RFC 8446, section 5.1: the type, and the first byte of the version
  if (answer.body.startsWith('\x15\x03')) return { check, what, result: 'ok', seen: 'an alert of TLS' };
  return { check, what, ...judgeAnswerInClear(answer) };
}
