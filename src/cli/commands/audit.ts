import { pipeline } from 'node:stream/promises';
import { Option, type Command } from 'commander';
import { isId } from '../../auth/api-key.ts';
import type { Api } from '../api.ts';
import { withApi } from '../connection.ts';
import type { Column } from '../output.ts';
import { parseNumber } from './clients.ts';
import { resolveClient } from './resolve-client.ts';
import { parsePast } from './times.ts';

interface ShownEvent {
  readonly at: string;
  readonly action: string;
  readonly outcome: string;
  readonly actor_id: number | null;
  readonly actor: string | null;
  readonly address: string | null;
  readonly client_id: number | null;
  readonly request_id: string | null;
  readonly details: Readonly<Record<string, unknown>> | null;
}

interface Options {
  readonly client?: string;
  readonly actor?: string;
  readonly action?: string;
  readonly outcome?: string;
  readonly request?: string;
  readonly since?: string;
  readonly until?: string;
  readonly limit: number;
  readonly export?: true;
}

const path = '/v1/management/audit-events';

const columns: readonly Column<ShownEvent>[] = [
  { title: 'TIME', value: ({ at }) => at },
  { title: 'ACTION', value: ({ action }) => action },
  { title: 'CLIENT', value: (event) => event.client_id },
  { title: 'BY', value: (event) => event.actor_id ?? event.actor },
  { title: 'FROM', value: ({ address }) => address },
  { title: 'OUTCOME', value: ({ outcome }) => outcome },
  { title: 'REQUEST', value: (event) => event.request_id },
  { title: 'WHAT', value: ({ details }) => (details ? whatOf(details) : null) },
];

/** In a few words; `--output json` has all of it. */
function whatOf({ before, after, method, path: called, key_id: key, name }: Record<string, unknown>): string | null {
  if (before && after) return changesOf(before as Fields, after as Fields);
  // bytes of whoever called; some terminals obey those beyond ASCII too
  if (typeof method === 'string') return `${method} ${String(called).replace(/[^\x21-\x7e]/g, encodeURIComponent)}`;
  if (typeof key === 'number') return `key ${key}`;
  return name === undefined ? null : JSON.stringify(name);
}

type Fields = Readonly<Record<string, unknown>>;

function changesOf(before: Fields, after: Fields): string | null {
  const changes = Object.keys(after)
    .map((name) => ({ name, from: JSON.stringify(before[name]), to: JSON.stringify(after[name]) }))
    .filter(({ from, to }) => from !== to)
    .map(({ name, from, to }) => `${name}: ${from} -> ${to}`);
  return changes.length === 0 ? null : changes.join(', ');
}

/** An id may be of a client that is there no more. */
async function idOf(api: Api, text: string | undefined): Promise<string | undefined> {
  if (text === undefined || isId(text)) return text;
  return String((await resolveClient(api, text)).id);
}

export function addAudit(program: Command): void {
  program
    .command('audit')
    .description('who has done what, the newest first')
    .option('--client <client>', 'to this API client: id, also of one that was deleted, api_client_id or name')
    .option('--actor <client>', 'by this API client')
    .option('--action <action>', 'such as api_key.rotate, or api_key for all of them')
    .option('--outcome <reason>', 'done, or the reason of a refusal')
    .option('--request <id>', 'in the course of this request')
    .option('--since <time>', 'a time, or a span such as 7d', parsePast)
    .option('--until <time>', 'before a time, or a span such as 1d', parsePast)
    .addOption(new Option('--limit <number>', 'at most').argParser(parseNumber).default(50))
    .option('--export', 'everything, the oldest first, as JSON lines')
    .action((options: Options, command: Command) =>
      withApi(command, async (api, output) => {
        const query = {
          client_id: await idOf(api, options.client),
          actor_id: await idOf(api, options.actor),
          action: options.action,
          outcome: options.outcome,
          request_id: options.request,
          since: options.since,
          until: options.until,
        };
        if (options.export) {
          await pipeline(await api.open(path, { ...query, format: 'jsonl', sort: 'id' }), process.stdout, {
            end: false,
          });
          return;
        }
        const found: ShownEvent[] = [];
        for await (const page of api.pages<ShownEvent>(path, { ...query, limit: Math.min(options.limit, 1_000) })) {
          found.push(...page);
          if (found.length >= options.limit) break;
        }
        await output.rows(found.slice(0, options.limit), columns);
      }),
    );
}
