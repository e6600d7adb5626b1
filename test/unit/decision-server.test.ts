import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { createDecisionServer } from '../../src/http/decision-server.ts';
import { listen, type Listener } from '../../src/http/listener.ts';
import { parseRequestHead, type RequestHead } from '../../src/http/request-head.ts';
import { readGatewayHeaders } from '../../src/http/request-headers.ts';
import { makeTempDir, until } from '../support/stack.ts';

const good = 'GET /decision HTTP/1.1\r\nHost: gateway\r\nAuthorization: apk 1.x\r\nX-Policy: api_keys_enabled=on';

/** Sends bytes to Node's own server and returns the requests that it makes of them, when its connection is closed. */
async function readWithNode(port: number, seen: IncomingMessage[], bytes: string): Promise<IncomingMessage[]> {
  seen.length = 0;
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.resume().end(Buffer.from(bytes, 'latin1'));
  await once(socket, 'close');
  return [...seen];
}

suite('the head of a question', () => {
  const seen: IncomingMessage[] = [];
  const node = createServer({ maxHeaderSize: 128 * 1024 }, (request, response) => {
    seen.push(request);
    response.writeHead(204).end();
  });
  before(async () => {
    node.listen(0, '127.0.0.1');
    await once(node, 'listening');
  });
  after(() => node.close());

  test('is read as nginx writes it', () => {
    assert.deepEqual(parseRequestHead(`${good}\r\nX-Client-Address: 192.0.2.1\r\nX-Request-Id: abc`), {
      target: '/decision',
      policyLines: 'X-Policy: api_keys_enabled=on',
      authorization: 'apk 1.x',
      clientAddress: '192.0.2.1',
      requestId: 'abc',
      isLast: false,
      hasCache: false,
      traceparent: undefined,
      tracestate: undefined,
    });
  });

  for (const [what, head] of [
    ['another method', good.replace('GET', 'POST')],
    ['an older version', good.replace('1.1', '1.0')],
    ['no Host', good.replace('Host: gateway\r\n', '')],
    ['two of Host', `${good}\r\nHost: other`],
    ['a body', `${good}\r\nContent-Length: 1`],
    ['a chunked body', `${good}\r\nTransfer-Encoding: chunked`],
    ['a line that continues', `${good}\r\n X-Policy: b`],
    ['a blank before the colon', `${good}\r\nAuthorization : apk 2.x`],
    ['no name', `${good}\r\n: x`],
    ['no colon', `${good}\r\nAuthorization`],
    ['a lone line feed', `${good}\nAuthorization: apk 2.x`],
    ['a lone carriage return', `${good}\rAuthorization: apk 2.x`],
    ['a NUL', `${good}\r\nX: \0`],
    ['an empty line first', `\r\n${good}`],
  ] as const) {
    test(`is refused with ${what}`, () => {
      assert.equal(parseRequestHead(head), undefined);
    });
  }

  test('with two Authorization lines is ambiguous', () => {
    assert.equal(parseRequestHead(`${good}\r\naUTHORIZATION: apk 1.x`)?.authorization, ',');
  });

  test("is never read otherwise than by Node's own parser", async () => {
    const { port } = node.address() as AddressInfo;
    const ends = fc.constantFrom(...Array<string>(20).fill('\r\n'), '\n', '\r', '\r\n ', '\r\n\t', '\r\r\n');
    const names = fc.constantFrom(
      ...['Host', 'host', 'Authorization', 'AUTHORIZATION', 'X-Policy', 'X-Policy-Require-Admin', 'X-Request-Id'],
      ...['X-Other', 'Connection', 'Content-Length', 'Transfer-Encoding', 'Authorization ', ' X', 'X\0', 'Ä', ''],
    );
    const values = fc.oneof(
      fc.constantFrom(
        'gateway',
        'apk 1.abc',
        'a=1\tb=2',
        'close',
        'keep-alive',
        '0',
        '1',
        'chunked',
        '',
        ' ',
        'ä',
        '\x7f',
      ),
      fc.string({ unit: fc.constantFrom('a', 'B', '1', '.', ' ', '\t', '"', 'é', '\r', '\n', '\0'), maxLength: 12 }),
    );
    const lines = fc.tuple(
      names,
      fc.constantFrom(': ', ': ', ':', ':\t ', ' : ', ''),
      values,
      fc.constantFrom('', ' ', '\t'),
    );
    const starts = fc.constantFrom(
      ...['GET /decision HTTP/1.1', 'GET /decision HTTP/1.1', 'GET /decision HTTP/1.1', 'GET /x?y HTTP/1.1'],
      ...['POST /decision HTTP/1.1', 'GET /decision HTTP/1.0', 'GET  /decision HTTP/1.1', 'GET /decision', ''],
    );
    const heads = fc
      .tuple(starts, fc.array(fc.tuple(ends, lines), { maxLength: 4 }), fc.boolean())
      .map(([start, rest, hasHost]) => {
        const host = hasHost ? '\r\nHost: gateway' : '';
        return `${start}${host}${rest.map(([end, line]) => end + line.join('')).join('')}`;
      })
      // an empty line ends a head, so ours is never asked about more
      .map((text) => text.split('\r\n\r\n')[0] ?? '');
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(heads, async (head) => {
        const ours = parseRequestHead(head);
        if (!ours) return;
        taken++;
        const requests = await readWithNode(port, seen, `${head}\r\n\r\n`);
        assert.equal(requests.length, 1, 'Node sees exactly one request');
        const [theirs] = requests as [IncomingMessage];
        const { policyLines, authorization, clientAddress, requestId } = readGatewayHeaders(theirs.rawHeaders);
        const trimmed = ours.policyLines.split('\n').map((line) => line.replace(/:[ \t]*/, ':').replace(/[ \t]+$/, ''));
        assert.deepEqual(
          [ours.target, ours.authorization, ours.clientAddress, ours.requestId, trimmed.join('\n').toLowerCase()],
          [theirs.url, authorization, clientAddress, requestId, policyLines.toLowerCase()],
        );
      }),
      { numRuns: 3_000 },
    );
    assert.ok(taken > 100, `only ${taken} heads were taken, so nothing was compared`);
  });
});

suite('the decision server', () => {
  const asked: RequestHead[] = [];
  let later: ((message: string) => void)[] = [];
  const granted = 'HTTP/1.1 204 No Content\r\n\r\n';
  let listener: Listener;
  let port: number;
  before(async () => {
    const server = createDecisionServer((head) => {
      asked.push(head);
      if (head.target !== '/later') return granted;
      return new Promise((resolve) => later.push(resolve));
    });
    listener = await listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, server);
    port = Number(listener.address.split(':')[1]);
  });
  after(() => listener.close());

  const open = (): { socket: Socket; text: () => string } => {
    let text = '';
    const socket = connect(port, '127.0.0.1').on('data', (chunk: Buffer) => (text += chunk.toString()));
    return { socket, text: () => text };
  };
  const count = (text: string) => text.split('HTTP/1.1 ').length - 1;

  test('answers one question after the other on one connection, whatever pieces they arrive in', async () => {
    const { socket, text } = open();
    const bytes = `${good}\r\n\r\n`.repeat(3);
    for (const byte of bytes) {
      socket.write(byte);
      await new Promise(setImmediate);
    }
    await until('three answers', () => count(text()) === 3);
    socket.destroy();
  });

  test('keeps the order of answers when one takes longer', async () => {
    later = [];
    const { socket, text } = open();
    socket.write(`${good.replace('/decision', '/later')}\r\n\r\n${good}\r\n\r\n`);
    await until('the first is asked', () => later.length === 1);
    assert.equal(text(), '');
    later[0]?.('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n');
    await until('two answers', () => count(text()) === 2);
    assert.match(text(), /^HTTP\/1.1 503[^]*HTTP\/1.1 204/);
    socket.destroy();
  });

  for (const [what, bytes, status] of [
    ['what is no question', 'hello\r\n\r\n', 400],
    ['a head of more than 64 KB', `${good}\r\nX: ${'a'.repeat(66_000)}\r\n\r\n`, 431],
    ['a head without an end', `${good}\r\nX: ${'a'.repeat(66_000)}`, 431],
  ] as const) {
    test(`refuses ${what} and closes, and reads nothing that follows`, async () => {
      asked.length = 0;
      const { socket, text } = open();
      socket.write(`${bytes}${good}\r\n\r\n`);
      await once(socket, 'close');
      assert.match(text(), new RegExp(`^HTTP/1.1 ${status} .*\\r\\nConnection: close\\r\\n`));
      assert.deepEqual([count(text()), asked.length], [1, 0]);
    });
  }

  test('closes after the answer when the question says so', async () => {
    const { socket, text } = open();
    socket.write(`${good}\r\nConnection: close\r\n\r\n`);
    await once(socket, 'close');
    assert.match(text(), /^HTTP\/1.1 204 No Content\r\nConnection: close\r\n\r\n$/);
  });

  test('drops whoever goes on asking without waiting for answers', async () => {
    const { socket } = open();
    socket.on('error', () => undefined);
    socket.write(`${good.replace('/decision', '/later')}\r\n\r\n`);
    socket.write(`${good}\r\n\r\n`.repeat(2_000));
    await until('it is dropped', () => socket.destroyed);
  });

  test('finishes what is under way when it is closed, and keeps no idle connection', async () => {
    later = [];
    const server = createDecisionServer(() => new Promise((resolve) => later.push(resolve)));
    const other = await listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, server);
    port = Number(other.address.split(':')[1]);
    const [busy, idle] = [open(), open()];
    busy.socket.write(`${good}\r\n\r\n`);
    await until('it is asked', () => later.length === 1);
    const closing = other.close();
    await once(idle.socket, 'close');
    later[0]?.(granted);
    await closing;
    assert.match(busy.text(), /^HTTP\/1.1 204 No Content\r\nConnection: close/);
    port = Number(listener.address.split(':')[1]);
  });
});

/** As many as the kernel lets wait. */
const longestQueue = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));

test(
  'two thousand connections at once wait to be accepted, and none is turned away',
  { skip: longestQueue < 2_000 && `net.core.somaxconn is ${longestQueue}` },
  async () => {
    const directory = makeTempDir();
    const path = join(directory, 'decision.sock');
    const server = createDecisionServer(() => '');
    const listener = await listen({ kind: 'unix', path }, server);
    // without a turn of the event loop, so that nobody accepts meanwhile
    const sockets = Array.from({ length: 2_000 }, () => connect(path));
    const connected = await Promise.allSettled(sockets.map((socket) => once(socket, 'connect')));
    for (const socket of sockets) socket.destroy();
    await listener.close();
    rmSync(directory, { recursive: true });
    assert.equal(connected.filter(({ status }) => status === 'rejected').length, 0);
  },
);
