import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, suite, test } from 'node:test';
import { promisify } from 'node:util';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { createOpenApiDocument } from '../../src/http/openapi/document.ts';
import { createReferencePage } from '../../src/http/openapi/reference-page.ts';
import { startTestStack, type TestStack } from '../support/stack.ts';

const run = promisify(execFile);
const path = '/v1/management/reference';
const document = createOpenApiDocument();
const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));

suite('the reference page', () => {
  let stack: TestStack;
  let browser: Browser;
  before(async () => {
    stack = await startTestStack();
    browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'].concat([
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ]),
    });
  });
  after(async () => {
    await browser.close();
    await stack.stop();
  });

  /** Opens the page; fails afterwards when the browser had anything to say, or asked anybody else. */
  async function withPage(
    options: BrowserContextOptions,
    use: (page: Page) => Promise<void>,
    hash = '',
  ): Promise<void> {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
    const said: string[] = [];
    const asked: string[] = [];
    context.on('console', (message) => said.push(message.text()));
    context.on('weberror', (error) => said.push(String(error.error())));
    context.on('request', (request) => asked.push(request.url()));
    const page = await context.newPage();
    const answer = await page.goto(`${stack.url}${path}${hash}`);
    assert.equal(answer?.status(), 200);
    await use(page);
    await context.close();
    assert.deepEqual(said, []);
    assert.deepEqual(
      asked.filter((url) => new URL(url).pathname !== '/favicon.ico'),
      [`${stack.url}${path}`],
    );
  }

  test('is for everybody, stored by nobody, and may load and run nothing', async () => {
    const { status, headers, body } = await stack.ask(path);
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(headers['cache-control'], 'no-store');
    assert.match(
      String(headers['content-security-policy']),
      /^default-src 'none'; style-src 'sha256-[^']{44}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$/,
    );
    assert.doesNotMatch(body, /<script|<link|<img|<iframe|javascript:| on\w+=| style=/i);
    assert.equal((await stack.ask(`${path}?x=1`)).json['reason'], 'invalid_parameter');
    // no other spelling of the path is public
    for (const other of [`${path}/`, '/v1/management/REFERENCE', `${path}/x`])
      assert.equal((await stack.ask(other)).status, 401, other);
    assert.equal((await stack.ask(path, { method: 'POST' })).status, 401);
  });

  test('has each call, schema and shared answer under a heading that can be linked to', async () => {
    await withPage({}, async (page) => {
      assert.equal(await page.title(), 'APIGW management API');
      assert.deepEqual(await page.locator('h1').allTextContents(), ['APIGW management API']);
      assert.deepEqual(
        await page.locator('section.operation > h3').allTextContents(),
        operations.map(({ summary }) => summary),
      );
      assert.deepEqual(
        await page.locator('section.schema > h3').allTextContents(),
        Object.keys(document.components.schemas),
      );
      const anchors = await page.evaluate<string[]>("[...document.links].map((one) => one.getAttribute('href'))");
      assert.ok(anchors.length > 2 * operations.length);
      for (const anchor of new Set(anchors)) assert.match(anchor, /^#/);
      const counts = await page.evaluate<Record<string, number>>(
        `Object.fromEntries([...document.links].map(({ hash }) => [hash, document.querySelectorAll(hash).length]))`,
      );
      assert.deepEqual(new Set(Object.keys(counts)), new Set(anchors));
      for (const [anchor, count] of Object.entries(counts)) assert.equal(count, 1, anchor);
    });
  });

  test('opens at the call that is linked to, which the contents lead to as well', async () => {
    await withPage(
      { viewport: { width: 1280, height: 800 } },
      async (page) => {
        const top = async (id: string) => (await page.locator(`#${id}`).boundingBox())?.y ?? NaN;
        assert.ok(Math.abs(await top('rotateApiKeys')) < 40);
        await page.locator('nav a[href="#createApiClient"]').click();
        await page.waitForFunction("location.hash === '#createApiClient'");
        assert.ok(Math.abs(await top('createApiClient')) < 40);
      },
      '#rotateApiKeys',
    );
  });

  test('fits on a phone, in the light and in the dark', async () => {
    const grounds: unknown[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      await withPage({ viewport: { width: 360, height: 740 }, colorScheme }, async (page) => {
        // nothing but what scrolls by itself is wider than the screen
        assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360);
        await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true");
        assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360);
        grounds.push(await page.evaluate('getComputedStyle(document.body).backgroundColor'));
      });
    }
    assert.deepEqual(grounds, ['rgb(255, 255, 255)', 'rgb(17, 22, 29)']);
  });

  test('shows commands that work as they stand', async () => {
    await withPage({}, async (page) => {
      for (const [id, status] of [
        ['createApiClient', '201'],
        ['listApiClients', '200'],
      ] as const) {
        const command = await page.locator(`#${id} .example pre`).first().textContent();
        const typed = String(command).replace('https://gateway.example.com', stack.url);
        const { stdout } = await run('bash', [
          '--norc',
          '-c',
          `KEY='${stack.adminKey}'; ${typed.replace('curl ', "curl -ks -o /dev/null -w '%{http_code}' ")}`,
        ]);
        assert.equal(stdout, status, typed);
      }
    });
  });

  test('escapes all that it shows', () => {
    const hostile = '"><script>alert(1)</script>\'&';
    const text = JSON.stringify(document).replaceAll('billing', JSON.stringify(hostile).slice(1, -1));
    const page = createReferencePage({
      ...(JSON.parse(text) as typeof document),
      info: { title: hostile, version: '1', description: hostile },
    });
    assert.doesNotMatch(page.text, /<script|"><|'&[^#]/);
  });
});
