import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

/** Where requests go. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  /** As it stands in the Host header. */
  readonly authority: string;
  /** Milliseconds until an answer must have begun. */
  readonly patience: number;
  readonly watch?: Watch;
}

/** Follows what comes back, so that a host that says nothing any more is not asked hundreds of times. */
export interface Watch {
  /** Why nothing more is sent; undefined while it is. */
  readonly ending: () => string | undefined;
  readonly note: (exchange: Exchange) => Promise<void>;
}

export function targetOf({ protocol, hostname, port, host }: URL, patience: number): Target {
  const isTls = protocol === 'https:';
  const fallback = isTls ? 443 : 80;
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? fallback : Number(port),
    isTls,
    authority: host,
    patience,
  };
}

/** The name that a TLS client asks for; none for an address (RFC 6066 3). */
export function serverNameOf({ host }: Target): string {
  return isIP(host) === 0 ? host : '';
}

export interface RequestParts {
  readonly method?: string;
  /** As it stands in the request line. */
  readonly path?: string;
  readonly version?: string;
  /** Header lines without their line end; `null` in place of the Host line leaves it out. */
  readonly before?: readonly string[];
  readonly host?: string | null;
  readonly lines?: readonly string[];
  readonly connection?: string;
  readonly body?: string;
}

/** The bytes of a request, each character one byte (Latin-1). Node's own client refuses to write most of what is tried. */
export function requestBytes(
  { authority }: Target,
  {
    method = 'GET',
    path = '/',
    version = 'HTTP/1.1',
    before = [],
    host = authority,
    lines = [],
    connection = 'close',
    body = '',
  }: RequestParts,
): string {
  const head = [
    `${method} ${path} ${version}`,
    ...before,
    ...(host === null ? [] : [`Host: ${host}`]),
    ...lines,
    ...(connection === '' ? [] : [`Connection: ${connection}`]),
  ];
  return `${head.join('\r\n')}\r\n\r\n${body}`;
}

export interface Answer {
  /** 0 for an answer without a status line, as HTTP/0.9 has it. */
  readonly status: number;
  /** Names in lower case; values of a name that came several times joined by ", ". */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** At most 64 KB. */
  readonly body: string;
}

/** What came back on one connection. */
export interface Exchange {
  /** Final answers in order, without 1xx. */
  readonly answers: readonly Answer[];
  /** Whether the server asked for the body before it answered (100 Continue). */
  readonly hasContinued: boolean;
  /** Why there is no answer. */
  readonly failure?: string;
  /** Whether the other side ended the connection, rather than saying nothing. */
  readonly isRefused: boolean;
}

export interface SendOptions {
  /** Of the TLS handshake; the target's host when it is not said, and none for ''. */
  readonly serverName?: string | undefined;
  /** How many answers the bytes ask for. */
  readonly expected?: number;
  /** To HEAD there is no body. */
  readonly isHead?: boolean;
  /** Whom to trust; without it any certificate will do, since nothing secret is sent. */
  readonly trust?: ConnectionOptions;
}

const maxBytes = 64 * 1024;
/** Milliseconds to wait for more of an answer that has begun, and for a further answer. */
const quiet = 700;

/** Writes the bytes as they are on a connection of their own, as long as the target is asked at all; never rejects. */
export async function send(target: Target, bytes: string, options: SendOptions = {}): Promise<Exchange> {
  const ending = target.watch?.ending();
  if (ending !== undefined) return { answers: [], hasContinued: false, isRefused: false, failure: ending };
  const exchange = await exchangeBytes(target, bytes, options);
  await target.watch?.note(exchange);
  return exchange;
}

function exchangeBytes(target: Target, bytes: string, options: SendOptions): Promise<Exchange> {
  const { serverName = serverNameOf(target), expected = 1, isHead = false, trust = {} } = options;
  return new Promise((resolve) => {
    const { host, port, isTls, patience } = target;
    const socket: Socket = isTls
      ? connectTls({
          host,
          port,
          servername: serverName,
          rejectUnauthorized: false,
          ALPNProtocols: ['http/1.1'],
          ...trust,
        })
      : connectTcp({ host, port });
    let received = '';
    let timer = setTimeout(finish, patience, `no answer within ${patience / 1_000} s`, false);
    let lastMoment: number | undefined;
    let isDone = false;

    function finish(failure: string, isRefused: boolean): void {
      if (isDone) return;
      isDone = true;
      clearTimeout(timer);
      socket.destroy();
      const { answers, hasContinued } = readAnswers(received, isHead);
      resolve({ answers, hasContinued, isRefused, ...(answers.length === 0 && !hasContinued && { failure }) });
    }

    socket.once(isTls ? 'secureConnect' : 'connect', () => socket.write(Buffer.from(bytes, 'latin1')));
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1').slice(0, maxBytes - received.length);
      const { answers, hasContinued, isComplete } = readAnswers(received, isHead);
      if (hasContinued || (isComplete && answers.length >= expected) || answers.at(-1)?.status === 101) {
        finish('', false);
      } else if (received.length >= maxBytes) {
        finish(`no end of a head within ${maxBytes / 1024} KB`, false);
      } else if (answers.length > 0) {
        // what there is of it then counts, whatever still comes
        lastMoment ??= performance.now() + patience / 2;
        clearTimeout(timer);
        timer = setTimeout(finish, Math.min(quiet, lastMoment - performance.now()), '', false);
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const isTheirs = /^(?:ECONNRESET|EPIPE|EPROTO|ERR_SSL_)/.test(error.code ?? '');
      finish(error.message.replace(/^[0-9A-F]+:error:|\n/g, '') || (error.code ?? 'connection failed'), isTheirs);
    });
    socket.on('close', () => {
      finish('closed without an answer', true);
    });
  });
}

interface Read {
  readonly answers: Answer[];
  readonly hasContinued: boolean;
  readonly isComplete: boolean;
}

function readAnswers(text: string, isHead: boolean): Read {
  const answers: Answer[] = [];
  let hasContinued = false;
  let rest = text;
  while (rest !== '') {
    if (!'HTTP/1.'.startsWith(rest.slice(0, 7))) {
      answers.push({ status: 0, headers: {}, body: rest });
      return { answers, hasContinued, isComplete: false };
    }
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) return { answers, hasContinued, isComplete: false };
    const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n');
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(statusLine)?.[1] ?? 0);
    const headers = readHeaders(lines);
    rest = rest.slice(end + 4);
    if (status >= 100 && status < 200 && status !== 101) {
      hasContinued ||= status === 100;
      continue;
    }
    const hasBody = !isHead && status !== 101 && status !== 204 && status !== 304;
    const { body, length } = hasBody ? readBody(rest, headers) : { body: '', length: 0 };
    answers.push({ status, headers, body: Buffer.from(body, 'latin1').toString('utf8') });
    if (length === undefined) return { answers, hasContinued, isComplete: false };
    rest = rest.slice(length);
  }
  return { answers, hasContinued, isComplete: true };
}

function readHeaders(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  return headers;
}

/** `length` is what it takes of the text; undefined while there may be more. */
function readBody(
  text: string,
  headers: Readonly<Record<string, string>>,
): { body: string; length: number | undefined } {
  if (/chunked/i.test(headers['transfer-encoding'] ?? '')) return readChunks(text);
  const length = Number(headers['content-length'] ?? NaN);
  if (Number.isNaN(length)) return { body: text, length: undefined };
  return { body: text.slice(0, length), length: text.length < length ? undefined : length };
}

function readChunks(text: string): { body: string; length: number | undefined } {
  let body = '';
  let at = 0;
  for (;;) {
    const lineEnd = text.indexOf('\r\n', at);
    if (lineEnd < 0) return { body, length: undefined };
    const size = parseInt(text.slice(at, lineEnd), 16);
    if (Number.isNaN(size)) return { body, length: undefined };
    body += text.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 4 + size;
    if (size === 0) return { body, length: text.length < at ? undefined : at };
    if (text.length < at) return { body, length: undefined };
  }
}
