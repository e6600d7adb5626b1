import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { connect as connectHttp2 } from 'node:http2';
import { request } from 'node:https';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { WebSocket } from 'ws';
import { startTestStack, type TestStack } from '../support/stack.ts';

suite('what passes through', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  const upload = randomBytes(50 * 1024 * 1024);
  const digest = createHash('sha256').update(upload).digest('hex');
  const lastSeen = () => stack.application.seen.at(-1);

  test('an upload of 50 MB, whole and without a copy on disk', async () => {
    const { status } = await stack.ask('/upload', { method: 'POST', key: stack.adminKey, body: upload });
    assert.equal(status, 200);
    assert.equal(lastSeen()?.bodyDigest, digest);
    const temp = readdirSync(join(stack.stack.runDir, 'nginx/temp/client_body'));
    assert.deepEqual(temp, []);
  });

  test('an upload in chunks of unknown length', async () => {
    const headers = { 'Transfer-Encoding': 'chunked' };
    const { status } = await stack.ask('/upload', { method: 'PUT', key: stack.adminKey, body: upload, headers });
    assert.equal(status, 200);
    assert.equal(lastSeen()?.bodyDigest, digest);
    assert.deepEqual(lastSeen()?.headers['transfer-encoding'], ['chunked']);
  });

  test('an upload over HTTP/2', async () => {
    const session = connectHttp2(stack.url, { rejectUnauthorized: false });
    try {
      assert.equal(
        await askHttp2(
          session,
          { ':method': 'POST', ':path': '/upload', authorization: `apk ${stack.adminKey}` },
          upload,
        ),
        200,
      );
      assert.equal(lastSeen()?.bodyDigest, digest);
      assert.equal(await askHttp2(session, { ':path': '/' }), 401);
      assert.equal(await askHttp2(session, { ':path': '/', authorization: `apk ${stack.adminKey}` }), 200);
    } finally {
      session.close();
    }
  });

  test('an upload without a credential is refused before it has been sent', async () => {
    const calls = stack.application.seen.length;
    let sent = 0;
    const status = await new Promise((resolve, reject) => {
      const post = request(
        {
          host: '127.0.0.1',
          port: stack.httpsPort,
          method: 'POST',
          path: '/upload',
          rejectUnauthorized: false,
          agent: false,
          headers: { 'Content-Length': upload.length },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode);
          post.destroy();
        },
      );
      post.on('error', reject);
      const chunk = upload.subarray(0, 64 * 1024);
      const send = () => {
        while (!post.destroyed && sent < upload.length) {
          sent += chunk.length;
          if (!post.write(chunk)) {
            post.once('drain', send);
            return;
          }
        }
      };
      send();
    });
    assert.equal(status, 401);
    assert.ok(sent < upload.length / 2, `${sent} bytes were sent before the refusal`);
    assert.equal(stack.application.seen.length, calls);
  });

  test('Expect: 100-continue without a credential gets 401 and no 100', async () => {
    const answer = await stack.sendRaw(
      'POST /upload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n',
    );
    assert.match(answer, /^HTTP\/1\.1 401 /);
  });

  test('server-sent events, each as it happens', async () => {
    const first = await new Promise<string>((resolve, reject) => {
      const events = request(
        {
          host: '127.0.0.1',
          port: stack.httpsPort,
          path: '/events',
          rejectUnauthorized: false,
          agent: false,
          headers: { Authorization: `apk ${stack.adminKey}` },
        },
        (response) => {
          response.once('data', (chunk: Buffer) => {
            resolve(chunk.toString());
            events.destroy();
          });
        },
      );
      events.on('error', reject);
      events.end();
    });
    assert.equal(first, 'data: first\n\n');
  });

  test('a WebSocket with a credential, text and binary', async () => {
    const socket = new WebSocket(`wss://127.0.0.1:${stack.httpsPort}/socket`, {
      rejectUnauthorized: false,
      headers: { Authorization: `apk ${stack.adminKey}` },
    });
    const echo = (data: string | Buffer) =>
      new Promise<Buffer>((resolve) => {
        socket.once('message', (message: Buffer) => {
          resolve(message);
        });
        socket.send(data);
      });
    await new Promise((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
    });
    assert.equal((await echo('hello')).toString(), 'hello');
    const large = upload.subarray(0, 300_000);
    assert.ok((await echo(large)).equals(large));
    assert.deepEqual(lastSeen()?.headers['x-client-name'], ['bootstrap']);
    socket.terminate();
  });

  test('no WebSocket without a credential', async () => {
    const calls = stack.application.seen.length;
    const socket = new WebSocket(`wss://127.0.0.1:${stack.httpsPort}/socket`, { rejectUnauthorized: false });
    const status = await new Promise((resolve) => {
      socket.once('unexpected-response', (_, response) => {
        resolve(response.statusCode);
        socket.terminate();
      });
      socket.on('error', () => undefined);
    });
    assert.equal(status, 401);
    assert.equal(stack.application.seen.length, calls);
  });

  for (const upgrade of ['h2c', 'h2c, websocket', 'websocket, h2c']) {
    test(`no upgrade but to WebSocket: ${upgrade} would be a tunnel past the gateway`, async () => {
      await stack.ask('/', {
        key: stack.adminKey,
        headers: { Connection: 'Upgrade, HTTP2-Settings', Upgrade: upgrade, 'HTTP2-Settings': 'AAMAAABkAAQAAP__' },
      });
      assert.equal(lastSeen()?.headers['upgrade'], undefined);
      assert.equal(lastSeen()?.headers['connection'], undefined);
    });
  }

  test("the application's own errors and pages, unchanged", async () => {
    for (const code of [400, 401, 403, 404, 429, 500, 502, 503]) {
      const { status, body } = await stack.ask(`/status?code=${code}`, { key: stack.adminKey });
      assert.deepEqual([status, body], [code, 'from the application']);
    }
  });

  test('raw paths and query strings, as the client wrote them', async () => {
    for (const path of ['/a%2Fb?x=%20y&z', '/a//b/../c', '/%E2%98%83', '/;p=1/.']) {
      const { status } = await stack.ask(path, { key: stack.adminKey });
      assert.equal(status, 200);
      assert.equal(lastSeen()?.url, path);
    }
  });

  test('an application cannot send the client into a location of nginx', async () => {
    const { status, body, headers } = await stack.ask('/redirect-inside', { key: stack.adminKey });
    assert.deepEqual([status, body], [200, 'from the application']);
    assert.equal(headers['x-client-id'], undefined);
  });
});

function askHttp2(
  session: ReturnType<typeof connectHttp2>,
  headers: Record<string, string>,
  body?: Buffer,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let status: unknown;
    stream.on('response', (received) => {
      status = received[':status'];
    });
    stream.on('error', reject);
    stream.on('end', () => {
      resolve(status);
    });
    stream.resume();
    if (body) stream.end(body);
  });
}
