import { once } from 'node:events';
import type { Socket } from 'node:net';

/** An answer as it came, bytes as Latin-1. */
export interface RawAnswer {
  readonly status: number;
  /** Names in lower case; of several lines with one name the last. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** A client that sends heads as they are, one request after the other on a connection that it keeps. */
export interface RawClient {
  readonly ask: (request: string) => Promise<RawAnswer>;
  readonly close: () => void;
}

/** Milliseconds for one answer. */
const patience = 60_000;

/** @param connect opens a connection, resolved once it can be written to */
export function createRawClient(connect: () => Promise<Socket>): RawClient {
  let socket: Socket | undefined;
  let last: Promise<unknown> = Promise.resolve();

  async function ask(request: string): Promise<RawAnswer> {
    if (!socket || socket.destroyed || socket.readableEnded) socket = await connect();
    const current = socket;
    let received = '';
    const onData = (chunk: Buffer) => {
      received += chunk.toString('latin1');
      answer = readAnswer(received, request.startsWith('HEAD '));
      if (answer) current.emit('answer');
    };
    let answer: RawAnswer | undefined;
    current.on('data', onData);
    const closed = new AbortController();
    const onClose = () => {
      closed.abort();
    };
    current.once('close', onClose);
    try {
      current.write(request, 'latin1');
      await once(current, 'answer', { signal: AbortSignal.any([closed.signal, AbortSignal.timeout(patience)]) });
    } catch {
      throw new Error(`no answer to ${JSON.stringify(request)}, but ${JSON.stringify(received)}`);
    } finally {
      current.off('data', onData).off('close', onClose);
    }
    if (!answer) throw new Error('an answer that is none');
    if (/close/i.test(answer.headers.get('connection') ?? '')) current.destroy();
    return answer;
  }

  return {
    ask: (request) => {
      const answer = last.then(() => ask(request));
      last = answer.catch(() => undefined);
      return answer;
    },
    close: () => socket?.destroy(),
  };
}

/** Undefined until all of it is there. */
function readAnswer(text: string, isHead: boolean): RawAnswer | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n');
  const status = Number(statusLine.split(' ')[1]);
  const headers = new Map(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  const rest = text.slice(end + 4);
  if (isHead || status === 204 || status === 304) return { status, headers, body: '' };
  if (headers.get('transfer-encoding') !== 'chunked') {
    const length = Number(headers.get('content-length') ?? 0);
    return rest.length < length ? undefined : { status, headers, body: rest.slice(0, length) };
  }
  let body = '';
  for (let at = 0; ;) {
    const lineEnd = rest.indexOf('\r\n', at);
    const size = parseInt(rest.slice(at, lineEnd), 16);
    if (lineEnd < 0 || rest.length < lineEnd + 4 + size) return undefined;
    if (size === 0) return { status, headers, body };
    body += rest.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 4 + size;
  }
}
