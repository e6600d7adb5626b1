import { connect, constants, type ClientHttp2Session, type OutgoingHttpHeaders } from 'node:http2';
import { isOpen, madeUpKey, type Paths } from './attempts.ts';
import { serverNameOf, type Answer, type Exchange, type Target } from './raw.ts';
import { persuasiveValue, reservedHeaders } from './spellings.ts';
import { judge, remedies, type Expectation, type Finding } from './verdict.ts';

const check = 'HTTP/2';
const maxBody = 64 * 1024;

interface Http2Attempt {
  readonly what: string;
  readonly headers: OutgoingHttpHeaders;
  readonly expect?: Expectation;
  readonly isEndless?: boolean;
}

/** The main attempts once more: HTTP/2 has its own parser, and its own ways to say where a request goes. */
export async function examineHttp2(target: Target, paths: Paths): Promise<Finding[]> {
  const ending = target.watch?.ending();
  if (ending !== undefined) return [{ check, what: '', result: 'not checked', seen: ending, remedy: remedies.down }];
  const session = connect(`https://${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`, {
    servername: serverNameOf(target),
    rejectUnauthorized: false,
  });
  const failed = new Promise<Error>((resolve) => session.on('error', resolve));
  try {
    const found = attempts(target, paths).map(async (attempt) => {
      const exchange = await ask(session, failed, attempt, target.patience);
      const isHead = attempt.headers[':method'] === 'HEAD';
      return { check, what: attempt.what, ...judge(exchange, attempt.expect, isHead) };
    });
    return await Promise.all(found);
  } finally {
    session.destroy();
  }
}

function attempts({ authority }: Target, paths: Paths): Http2Attempt[] {
  const key = madeUpKey();
  const of = (what: string, headers: OutgoingHttpHeaders, more: Partial<Http2Attempt> = {}): Http2Attempt => ({
    what,
    headers: { ':method': 'GET', ':path': '/', ':scheme': 'https', ':authority': authority, ...headers },
    ...more,
  });
  const spelt = (separator: string) =>
    Object.fromEntries(
      reservedHeaders.map((name) => [name.toLowerCase().replaceAll('-', separator), persuasiveValue(name)]),
    );
  const malformed = { expect: 'malformed' } as const;
  return [
    ...['/', ...paths.protected]
      .filter((path) => !isOpen(path, paths))
      .map((path) => of(`GET ${path}`, { ':path': path })),
    of('a made-up key', { authorization: `apk ${key}` }),
    of('junk', { authorization: 'Bearer junk' }),
    of('identity headers', spelt('-')),
    of('identity headers, underscores', spelt('_'), malformed),
    of('identity headers, dots', spelt('.'), malformed),
    of('a key in the query', { ':path': `/?api_key=${key}` }, { expect: 'uncredentialed' }),
    of('a key in a cookie', { cookie: `api_key=${key}` }, { expect: 'uncredentialed' }),
    of('another authority', { ':authority': 'apigw-doctor.invalid' }, malformed),
    of('another Host', { host: 'gateway' }, malformed),
    of('http', { ':scheme': 'http' }, malformed),
    ...['/livez/../', '/livez/%2e%2e/', '/livez/..;/', '/livezz', '//', '/\\', '/%00', '*', '/metrics'].map((path) =>
      of(path, { ':path': path }, malformed),
    ),
    ...['/_apigw/decision', '/_apigw/problem'].map((path) => of(path, { ':path': path }, { expect: 'hidden' })),
    of('management', { ':path': '/v1/management/api-clients' }),
    of('management, identity headers', { ':path': '/v1/management/api-clients', ...spelt('-') }),
    of('HEAD', { ':method': 'HEAD' }),
    ...['OPTIONS', 'TRACE', 'PROPFIND', 'BREW'].map((method) => of(method, { ':method': method }, malformed)),
    of(
      '1 GB announced',
      { ':method': 'POST', ':path': '/apigw-doctor', 'content-length': '1073741824', expect: '100-continue' },
      { isEndless: true },
    ),
    of('chunks without end', { ':method': 'POST', ':path': '/apigw-doctor' }, { isEndless: true }),
  ];
}

function ask(
  session: ClientHttp2Session,
  failed: Promise<Error>,
  attempt: Http2Attempt,
  patience: number,
): Promise<Exchange> {
  return new Promise((resolve) => {
    const stream = session.request(attempt.headers, { endStream: attempt.isEndless !== true });
    let answer: Answer | undefined;
    let hasContinued = false;
    let body = '';
    const settle = (failure = '', isRefused = false) => {
      clearTimeout(timer);
      const answers = answer === undefined ? [] : [{ ...answer, body }];
      resolve({ answers, hasContinued, isRefused, failure });
      stream.on('error', () => undefined);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const timer = setTimeout(settle, patience, `no answer within ${patience / 1_000} s`);
    void failed.then(({ message }) => {
      settle(message, true);
    });
    stream.on('continue', () => {
      hasContinued = true;
      settle();
    });
    stream.on('response', ({ ':status': status = 0, ...headers }) => {
      const text = Object.entries(headers).map(([name, value]) => [name, String(value)] as const);
      answer = { status, headers: Object.fromEntries(text), body: '' };
    });
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      body += chunk;
      if (body.length >= maxBody) settle();
    });
    stream.on('end', () => {
      settle();
    });
    stream.on('error', ({ message }: Error) => {
      settle(message, true);
    });
    if (attempt.isEndless === true) stream.write('x'.repeat(1024));
  });
}
