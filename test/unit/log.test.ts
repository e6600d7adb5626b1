import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { suite, test } from 'node:test';
import { createLog } from '../../src/log.ts';

suite('the log', () => {
  const key = `12.${'aB3'.repeat(21)}x`;
  let written = '';
  const destination = new PassThrough();
  destination.on('data', (chunk: Buffer) => (written += chunk.toString()));
  const log = createLog('info', destination);

  test('has no API key, wherever one is put', () => {
    log.info({ authorization: `apk ${key}`, nested: { token: key }, other: `before ${key} after` }, `message ${key}`);
    log.error({ err: new Error(`cause ${key}`) }, 'failed');
    assert.doesNotMatch(written, /[A-Za-z0-9]{64}/);
    assert.match(written, /message \[redacted\]/);
    assert.match(written, /"authorization":"\[redacted\]"/);
  });

  test('is JSON, a line for each event, with its level in words and its time in UTC', () => {
    for (const line of written.trim().split('\n')) {
      const { level, time, msg } = JSON.parse(line) as Record<string, string>;
      assert.match(level ?? '', /^(?:info|error)$/);
      assert.match(time ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      assert.ok(msg);
    }
  });
});
