import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, extname, join, relative } from 'node:path';
import { suite, test } from 'node:test';
import { loadConfig } from '@secretlint/config-loader';
import { lintSource } from '@secretlint/core';
import { RE2JS } from 're2js';
import { parse as parseToml } from 'smol-toml';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { generateSecret } from '../../src/auth/api-key.ts';
import { makeTempDir, root } from '../support/stack.ts';

const shipped = join(root, 'docs/secret-scanning');
const read = (file: string) => readFileSync(join(shipped, file), 'utf8');

const everyLastDigitOfAnId = ['0.', '1.', '2.', '3.', '4.', '5.', '6.', '7.', '8.', '9.'];
const keywords = z.array(z.string()).refine((words) => everyLastDigitOfAnId.every((word) => words.includes(word)));

const gitleaks = z
  .strictObject({
    extend: z.strictObject({ useDefault: z.literal(true) }),
    rules: z.tuple([
      z.strictObject({ id: z.string(), description: z.string(), regex: z.string(), entropy: z.number(), keywords }),
    ]),
  })
  .parse(parseToml(read('gitleaks.toml'))).rules[0];

const trufflehog = z
  .strictObject({
    detectors: z.tuple([
      z.strictObject({
        name: z.string(),
        keywords,
        regex: z.strictObject({ key: z.string() }),
        entropy: z.number(),
      }),
    ]),
  })
  .parse(parseYaml(read('trufflehog.yaml'))).detectors[0];

const github = z
  .strictObject({
    name: z.string(),
    patterns: z.tuple([
      z.strictObject({
        name: z.string(),
        type: z.string(),
        regex: z.strictObject({
          version: z.literal(0.1),
          pattern: z.string(),
          start: z.string(),
          end: z.string(),
          additional_match: z.array(z.string()),
        }),
      }),
    ]),
  })
  .parse(parseYaml(read('github-custom-pattern.yaml'))).patterns[0].regex;

/** What stands in the files of a repository, with a key of its own wherever it says `<key>`. */
const leaks: Record<string, string> = {
  '.env': 'PORT=8080\nAPIGW_KEY=<key>\nDEBUG=false\n',
  '.env.windows': 'PORT=8080\r\nAPIGW_KEY=<key>\r\n',
  '.bash_history':
    'ls\nexport KEY=<key>; curl -H "Authorization: apk $KEY" https://localhost:8443/\nhttp :8080 x:<key>\n',
  'config/values.yaml': 'gateway:\n  apiKey: <key>\n  keys: [<key>,<key>]\n',
  'config/quoted.yaml': 'single: \'<key>\'\ndouble: "<key>"\n',
  'config/client.json': '{\n  "token": "<key>",\n  "headers": {"authorization":"apk <key>"}\n}\n',
  'config/escaped.json': '{"lines": "first\\n<key>\\n<key>\\tlast"}\n',
  'config/settings.xml': '<settings><apk><key></apk></settings>\n',
  'src/client.ts': "const key = '<key>';\nawait fetch(url, { headers: { Authorization: `apk <key>` } });\n",
  'src/client.py': 'KEY="<key>"\nauth = ("apk", "<key>")  # <key>\n',
  'scripts/call.sh':
    'curl -H "Authorization: apk <key>" https://localhost:8443/\ncurl -HAuthorization:apk\\ <key> https://[::1]/\n',
  'docs/how-to.md': 'Ours is <key>. Or _<key>_, `<key>`, (<key>).\n\n- <key>\n',
  'docs/links.txt':
    'https://example.com/?key=<key>&page=1\nhttps://example.com/#<key>\nhttps://<key>@example.com/<key>/\n',
  'docs/encoded.txt': 'GET /?authorization=apk%20<key> HTTP/1.1\nkey%3D<key>%26page%3D1\n',
  'docs/table.csv': 'name,key,note\nbilling,<key>,\n<key>;<key>\t<key>|<key>\n',
  'bare-key': '<key>',
  'one-per-line': '<key>\n<key>\n<key>',
};

const secret = generateSecret('1');
const digest = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

/** What is no key, though all but the last five have a true secret in them. */
const lookAlikes: Record<string, string> = {
  'one character too many': `key=1.${secret}x`,
  'one digit too many': `key=1.${secret}0`,
  'one character too few': `key=1.${secret.slice(1)}`,
  'another character in the middle': `key=1.${secret.slice(0, 30)}-${secret.slice(31)}`,
  'a line end in the middle': `key=1.${secret.slice(0, 30)}\n${secret.slice(30)}`,
  'a number before it': `key=0.1.${secret}`,
  'a word before it': `key=x1.${secret}`,
  'a name and a dot before it': `key=version.1.${secret}`,
  'a zero before the id': `key=01.${secret}`,
  'no id but zero': `key=0.${secret}`,
  'no id': `key=${secret}`,
  'no digit before the dot': `key=v.${secret}`,
  'an id of 20 digits': `key=12345678901234567890.${secret}`,
  'a sign for the dot': `key=1,${secret}`,
  'a space after the dot': `key=1. ${secret}`,
  'part of a signed token': `key=eyJhbGciOiJub25lIn1.${secret}.`,
  'a numbered digest': `1.${digest}\n2.${digest}`,
  'a numbered digest in capitals': `1.${digest.toUpperCase()}`,
  'a placeholder': `key=1.${'x'.repeat(64)}\nkey=<id>.<secret>`,
  'a digest in base64': `"integrity": "sha512-1.${'kFo9Zx+/'.repeat(11)}=="`,
  'numbers with dots':
    'version 1.22.1, 127.0.0.1, 3.14159265358979323846264338327950288419716939937510582097494459230781',
};

/** Each as `<file> <key>`. */
type Findings = string[];

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}

async function scanFiles(folder: string, scan: (text: string, file: string) => string[] | Promise<string[]>) {
  const findings: Findings = [];
  for (const file of filesIn(folder)) {
    const keys = await scan(readFileSync(join(folder, file), 'utf8'), file);
    findings.push(...keys.map((key) => `${file} ${key}`));
  }
  return findings;
}

/**
 * All keys that the first group finds, by RE2: it has Go's syntax, and as much of Hyperscan's as is used here. Go looks
 * for the next match behind the last one, Hyperscan reports those that overlap as well.
 */
function findKeys(expression: string, text: string, { overlapping = false } = {}): string[] {
  const matcher = RE2JS.compile(expression).matcher(text);
  const keys: string[] = [];
  for (let from = 0; matcher.find(from); from = matcher.end(overlapping ? 1 : 0)) keys.push(matcher.group(1) ?? '');
  return keys;
}

/** Bits per character (Shannon), as gitleaks and TruffleHog reckon them. */
function entropyOf(text: string): number {
  const counts = new Map<string, number>();
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
  return -[...counts.values()].reduce((sum, count) => sum + (count / text.length) * Math.log2(count / text.length), 0);
}

function scanAsGo(rule: { regex: string; keywords: string[]; entropy: number }) {
  return (text: string) =>
    rule.keywords.some((word) => text.includes(word))
      ? findKeys(rule.regex, text).filter((key) => entropyOf(key) > rule.entropy)
      : [];
}

function scanAsGitHub(text: string): string[] {
  const expression = `(?:${github.start})(${github.pattern})(?:${github.end})`;
  return findKeys(expression, text, { overlapping: true }).filter((key) =>
    github.additional_match.every((pattern) => RE2JS.compile(pattern).matcher(key).find()),
  );
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(status, 0, error?.message ?? stderr);
  return stdout;
}

function runGitleaks(folder: string): Findings {
  const report = join(makeTempDir(), 'report.json');
  const output = ['--report-format', 'json', '--report-path', report, '--exit-code', '0', '--no-banner'];
  run('gitleaks', ['dir', '--config', join(shipped, 'gitleaks.toml'), ...output, folder]);
  const finding = z.object({ RuleID: z.string(), File: z.string(), Secret: z.string() });
  return z
    .array(finding)
    .parse(JSON.parse(readFileSync(report, 'utf8')))
    .filter(({ RuleID }) => RuleID === gitleaks.id)
    .map(({ File, Secret }) => `${relative(folder, File)} ${Secret}`);
}

function runTrufflehog(folder: string): Findings {
  const options = ['--config', join(shipped, 'trufflehog.yaml'), '--json', '--no-verification', '--no-update'];
  const finding = z.object({
    ExtraData: z.object({ name: z.string().optional() }).nullish(),
    Raw: z.string(),
    SourceMetadata: z.object({ Data: z.object({ Filesystem: z.object({ file: z.string() }) }) }),
  });
  return run('trufflehog', ['filesystem', folder, ...options])
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => finding.parse(JSON.parse(line)))
    .filter(({ ExtraData }) => ExtraData?.name === trufflehog.name)
    .map(({ Raw, SourceMetadata }) => `${relative(folder, SourceMetadata.Data.Filesystem.file)} ${Raw}`);
}

async function runSecretlint(folder: string): Promise<Findings> {
  const { config } = await loadConfig({ configFilePath: join(shipped, 'secretlintrc.json') });
  return scanFiles(folder, async (content, filePath) => {
    const source = { content, filePath, ext: extname(filePath), contentType: 'text' } as const;
    const { messages } = await lintSource({ source, options: { config } });
    return messages.map(({ range }) => content.slice(...range));
  });
}

const isOnPath = (command: string) => spawnSync(command, ['--version']).status === 0;

const scanners: { name: string; scan: (folder: string) => Findings | Promise<Findings> }[] = [
  isOnPath('gitleaks')
    ? { name: 'gitleaks itself', scan: runGitleaks }
    : {
        name: "gitleaks' rule (RE2; no gitleaks on PATH)",
        scan: (folder) => scanFiles(folder, scanAsGo(gitleaks)),
      },
  isOnPath('trufflehog')
    ? { name: 'TruffleHog itself', scan: runTrufflehog }
    : {
        name: "TruffleHog's detector (RE2; no trufflehog on PATH)",
        scan: (folder) => scanFiles(folder, scanAsGo({ ...trufflehog, regex: trufflehog.regex.key })),
      },
  { name: "GitHub's pattern (RE2)", scan: (folder) => scanFiles(folder, scanAsGitHub) },
  { name: 'secretlint itself', scan: runSecretlint },
];

function write(folder: string, file: string, text: string): void {
  mkdirSync(dirname(join(folder, file)), { recursive: true });
  writeFileSync(join(folder, file), text);
}

/** The findings that are expected. The first key has the longest id, the others count from 1. */
function plantKeys(folder: string): Findings {
  const planted: Findings = [];
  for (const [file, template] of Object.entries(leaks)) {
    const text = template.replaceAll('<key>', () => {
      const clientId = planted.length === 0 ? '9223372036854775807' : String(planted.length);
      const key = `${clientId}.${generateSecret(clientId)}`;
      planted.push(`${file} ${key}`);
      return key;
    });
    write(folder, file, text);
  }
  return planted;
}

const sorted = (findings: Findings) => [...new Set(findings)].sort();

/** What the script in the README prints for a text. */
function trueKeysIn(text: string): string[] {
  const [, script = ''] = /^```js\n([^]*?)^```$/m.exec(read('README.md')) ?? [];
  const file = join(makeTempDir(), 'keys.mjs');
  writeFileSync(file, script);
  const { stdout, stderr } = spawnSync(process.execPath, [file], { input: text, encoding: 'utf8' });
  assert.equal(stderr, '');
  return stdout.split('\n').filter((line) => line !== '');
}

suite('a leaked key in a repository', () => {
  const repository = makeTempDir();
  const planted = plantKeys(repository);
  for (const [what, text] of Object.entries(lookAlikes)) write(repository, join('no-keys', what), text);

  for (const { name, scan } of scanners) {
    test(`is found by ${name}, wherever it stands, and nothing that looks like one`, async () => {
      assert.deepEqual(sorted(await scan(repository)), sorted(planted));
    });
  }

  test('is told by the script of the README from a random text of the same form, which no scanner can do', async () => {
    const stranger = `7.${generateSecret('8')}`;
    const elsewhere = makeTempDir();
    write(elsewhere, '.env', `KEY=${stranger}\n`);
    for (const { name, scan } of scanners) assert.deepEqual(await scan(elsewhere), [`.env ${stranger}`], name);

    const keys = planted.map((finding) => finding.slice(finding.indexOf(' ') + 1));
    const report = [stranger, `1.${digest}`, ...keys].map((key) => ({ Match: `apk%20${key}`, Secret: key }));
    assert.deepEqual(trueKeysIn(JSON.stringify(report, null, 1)), keys);
  });
});

test('every file that is shipped for secret scanning is named by its README', () => {
  const files = filesIn(shipped).filter((file) => file !== 'README.md');
  for (const file of files) assert.ok(read('README.md').includes(`](${file})`), file);
});
