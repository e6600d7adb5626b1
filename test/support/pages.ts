import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './stack.ts';

/** Every document, by its path in the repository. */
export const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((file) => join('docs', file)),
].filter((file) => file.endsWith('.md'));
export const read = (page: string) => readFileSync(join(root, page), 'utf8');

/** The blocks of a page in a language; '' for those that name none. */
export function blocks(page: string, language: string): string[] {
  const fences = [...read(page).matchAll(/^```(\w*)\n([^]*?)^```$/gm)];
  return fences.filter(([, name]) => name === language).map(([, , text = '']) => text);
}

/** Commands and what they print, from the console blocks of a page, in order. */
export function transcript(page: string): { command: string; output: string }[] {
  return blocks(page, 'console').flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((entry) => {
        const [command = '', ...output] = entry.split('\n');
        return { command, output: output.join('\n') };
      }),
  );
}

/** What a heading can be linked to by, as GitHub makes it. */
export function anchors(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

/** Puts each block of a page where it belongs in default.conf. */
export function withBlocks(defaultConf: string, added: readonly string[]): string {
  const place = (conf: string, block: string): string => {
    const [, setting] = /^map \$server_name (\$\w+)/.exec(block) ?? [];
    if (setting !== undefined) {
      const start = conf.indexOf(`map $server_name ${setting} `);
      return conf.slice(0, start) + block + conf.slice(conf.indexOf('}', start) + 1);
    }
    if (block.startsWith('server ')) return `${conf}\n${block}`;
    if (block.startsWith('  location / ')) return conf.replace(/^ {2}location \/ \{[^]*?^ {2}\}\n/m, () => block);
    const before = block.startsWith('  ') ? '  location / {' : 'upstream application';
    return conf.replace(`\n${before}`, () => `\n${block}\n${before}`);
  };
  return added.reduce(place, defaultConf);
}
