import { pipeline } from 'node:stream/promises';
import { Option, type Command } from 'commander';
import { withApi } from '../connection.ts';
import type { Column } from '../output.ts';
import { parseNumber } from './clients.ts';
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
}

interface Options {
  readonly client?: number;
  readonly actor?: number;
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
];

export function addAudit(program: Command): void {
  program
    .command('audit')
    .description('who has done what, the newest first')
    .option('--client <id>', 'to this API client', parseNumber)
    .option('--actor <id>', 'by this API client', parseNumber)
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
          client_id: options.client,
          actor_id: options.actor,
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
