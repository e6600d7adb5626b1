import assert from 'node:assert/strict';
import type { RequestListener, ServerResponse } from 'node:http';
import { after, afterEach, before, beforeEach, suite, test } from 'node:test';
import { startCollector, type Collector } from '../support/collector.ts';
import { spawnGateway, startGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { freePorts, until } from '../support/stack.ts';

const quick = { OTEL_BSP_SCHEDULE_DELAY: '20', OTEL_EXPORTER_OTLP_TIMEOUT: '200', API_KEY_CREATE: 'true' };
const complaints = ({ output }: GatewayProcess) =>
  output()
    .split('\n')
    .filter((line) => line.includes('traces are lost'))
    .map((line) => (JSON.parse(line) as { cause: string }).cause);

suite('a collector', () => {
  let collector: Collector;
  let gateway: GatewayProcess | undefined;
  beforeEach(async () => {
    collector = await startCollector();
  });
  afterEach(async () => {
    if (gateway) await stopGateway(gateway);
    gateway = undefined;
    await collector.close();
  });
  const start = async (env: Record<string, string> = {}) => {
    gateway = await startGateway(undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...quick, ...env });
    return gateway;
  };

  async function expectDecisions({ decide, firstKey }: GatewayProcess): Promise<void> {
    for (let time = 0; time < 10; time++) {
      assert.equal(await decide(firstKey()), 204);
      assert.equal(await decide('1.x'), 401);
    }
  }

  let asked = 0;
  const answers = (status: number, body: Buffer | string): RequestListener => {
    asked = 0;
    return (request, response) => {
      request.resume().on('end', () => {
        asked++;
        response.writeHead(status, { 'Content-Type': 'text/html' }).end(body);
      });
    };
  };
  for (const [what, status, body] of [
    ['refuses', 400, 'no'],
    ['answers with rubbish', 200, Buffer.alloc(100_000, 0xff)],
    ['leads elsewhere', 302, ''],
  ] as const) {
    test(`that ${what} costs traces and one line of the log, and no decision`, async () => {
      collector.behave(answers(status, body));
      const running = await start();
      await until('it was asked several times', async () => {
        await expectDecisions(running);
        return asked >= 5;
      });
      await until('the log says so', () => complaints(running).length > 0);
      assert.equal(complaints(running).length, 1);
    });
  }

  test('that is not there costs traces and one line of the log, and no decision', async () => {
    const [port] = await freePorts(1);
    const running = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port ?? 0}` });
    await expectDecisions(running);
    await until('the log says so', () => complaints(running).length > 0);
    assert.match(complaints(running)[0] ?? '', /ECONNREFUSED/);
    await expectDecisions(running);
    assert.equal(complaints(running).length, 1);
  });

  test('that does not answer holds up no decision, and what waits for it is bounded', async () => {
    const held: ServerResponse[] = [];
    collector.behave((_, response) => held.push(response));
    const running = await start({
      OTEL_EXPORTER_OTLP_TIMEOUT: '600000',
      OTEL_BSP_EXPORT_TIMEOUT: '600000',
      OTEL_BSP_MAX_QUEUE_SIZE: '20',
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10',
    });
    await expectDecisions(running);
    await until('it has been asked', () => held.length > 0);
    for (let time = 0; time < 5; time++) await expectDecisions(running);
    assert.equal(held.length, 1, 'one export at a time');
    collector.behave(undefined);
    for (const response of held) response.writeHead(200).end();
    await until('it has what was kept', () => collector.spans.length >= 20);
    await until('the log says that the rest is lost', () => {
      void running.decide('1.x');
      return complaints(running).length > 0;
    });
    assert.match(complaints(running)[0] ?? '', /Dropped [0-9]+ spans/);
    assert.ok(collector.spans.length < 60, `${collector.spans.length} of 120 decisions`);
  });

  test('gets at SIGTERM what has not been sent yet', async () => {
    const running = await start({ OTEL_BSP_SCHEDULE_DELAY: '600000' });
    await expectDecisions(running);
    assert.equal(collector.spans.length, 0);
    assert.deepEqual(await stopGateway(running), [0, null]);
    assert.equal(collector.spans.filter(({ name }) => name === 'decision').length, 20);
  });

  test('that does not answer does not keep the gateway from ending', async () => {
    let isAsked = false;
    collector.behave(() => (isAsked = true));
    const running = await start({ OTEL_BSP_SCHEDULE_DELAY: '600000', OTEL_EXPORTER_OTLP_TIMEOUT: '600000' });
    await expectDecisions(running);
    assert.deepEqual(await stopGateway(running), [0, null]);
    assert.ok(isAsked);
    assert.deepEqual(complaints(running), ['the collector has not taken the last ones within 2 s']);
  });

  test('takes JSON, and the spans of both workers', async () => {
    const running = await start({ OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json', APIGW_WORKERS: '2' });
    const instances = () => new Set(collector.spans.map(({ resource }) => resource['service.instance.id']));
    await until('both have decided', async () => {
      await expectDecisions(running);
      return instances().size === 2;
    });
    assert.deepEqual([...collector.contentTypes], ['application/json']);
    const granted = collector.spans.find(({ attributes }) => attributes['apigw.outcome'] === 'granted');
    assert.deepEqual([granted?.name, granted?.kind, granted?.parentSpanId], ['decision', 2, '']);
  });

  test('gets the share that OTEL_TRACES_SAMPLER says', async () => {
    const running = await start({ OTEL_TRACES_SAMPLER: 'always_off' });
    await expectDecisions(running);
    assert.match(running.output(), /"trace_id":"[0-9a-f]{32}".*"reason":"malformed_credential"/);
    await stopGateway(running);
    assert.equal(collector.spans.length, 0);
  });
});

suite('without a collector', () => {
  let gateway: GatewayProcess;
  before(async () => {
    gateway = await startGateway(undefined, { ...quick, OTEL_TRACES_EXPORTER: 'console' });
  });
  after(() => stopGateway(gateway));

  test('the console has the spans', async () => {
    await gateway.decide(gateway.firstKey());
    await until('one is there', () => gateway.output().includes("name: 'decision'"));
  });
});

suite('a mistake in the settings of traces', () => {
  test('stops the start, each with a sentence, and repeats no secret', async () => {
    const { ended, output } = spawnGateway(undefined, {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_EXPORTER_OTLP_HEADERS: 'hunter2',
      APIGW_WORKERS: '2',
    });
    assert.deepEqual(await ended, [78, null]);
    assert.match(output(), /^apigw: OTEL_EXPORTER_OTLP_ENDPOINT has a value that is not allowed; allowed: an http or/m);
    assert.match(
      output(),
      /^apigw: OTEL_EXPORTER_OTLP_PROTOCOL is "grpc", which is not allowed; allowed: http\/protobuf, http\/json\.$/m,
    );
    assert.match(output(), /^apigw: OTEL_EXPORTER_OTLP_HEADERS has a value that is not allowed/m);
    assert.doesNotMatch(output(), /hunter2|collector:4318"/);
  });
});
