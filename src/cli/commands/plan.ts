import type { Api, Query } from '../api.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Output } from '../output.ts';
import { startProgress } from '../progress.ts';

export interface Change {
  readonly action: 'create' | 'update' | 'delete';
  readonly api_client_id: string;
  readonly id: number | null;
  readonly fields: readonly { readonly name: string; readonly from: unknown; readonly to: unknown }[];
  readonly keys_added: readonly string[];
  readonly keys_removed: readonly string[];
}

/** What a declaration changes, or would change. */
export interface Applied {
  readonly dry_run: boolean;
  readonly revision: number;
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
  readonly unchanged: number;
  readonly changes: readonly Change[];
}

/** What was found out about a declaration, before anything is done. */
export interface Plan {
  readonly changes: Applied;
  /** Documents of a size that the API takes. Each is one transaction. */
  readonly parts: readonly unknown[];
}

const applyPath = '/v1/management/apply';
/** What the API takes in one document: clients, and bytes with some room for the rest of it. */
const partClients = 10_000;
const partBytes = 15 * 1024 * 1024;

/**
 * Asks what the declaration would change, all of it, before anything is done.
 *
 * @param document as it was read: what is wrong with it, the API says
 * @throws {CliError} when it needs several transactions and one of its members allows only one
 */
export async function makePlan(api: Api, document: unknown, query: Query): Promise<Plan> {
  const parts = partsOf(document);
  if (parts.length > 1 && query['prune'] === true)
    throw new CliError(
      `With --prune there may be ${partClients} clients and ${partBytes >> 20} MB in a file, which is what one transaction takes: clients of the others would be removed.`,
      exitCodes.usage,
    );
  const plans: Applied[] = [];
  for (const body of parts) {
    const options = { query: { ...query, dry_run: true, revision: plans[0]?.revision }, body };
    plans.push(await inPart(parts, plans.length, () => api.call<Applied>('POST', applyPath, options)));
  }
  return { changes: join(plans), parts };
}

/**
 * Does what the plan says, or nothing: of several parts those before another change of somebody else.
 *
 * @throws {CliError} conflict, when something has been changed since the plan was made
 */
export async function carryOut(api: Api, plan: Plan, query: Query): Promise<Applied> {
  const done: Applied[] = [];
  const progress = startProgress('parts', plan.parts.length);
  try {
    for (const body of plan.parts) {
      const revision = done.at(-1)?.revision ?? plan.changes.revision;
      const options = { query: { ...query, revision }, body };
      done.push(await inPart(plan.parts, done.length, () => api.call<Applied>('POST', applyPath, options)));
      progress.advance();
    }
  } catch (error) {
    if (done.length === 0 || !(error instanceof CliError)) throw error;
    throw new CliError(`${error.message}\nThe parts before it are done. Do it again to go on.`, error.exitCode, error);
  } finally {
    progress.stop();
  }
  return join(done);
}

/** By id, because ids only ascend. */
function partsOf(document: unknown): unknown[] {
  const { version, clients } = (document ?? {}) as { version?: unknown; clients?: unknown };
  if (!Array.isArray(clients) || (clients.length <= partClients && sizeOf(document) <= partBytes)) return [document];
  refuseTwice(clients);
  const idOf = (client: unknown) => Number((client as { id?: unknown } | null)?.id ?? Infinity);
  const parts: unknown[][] = [];
  let bytes = Infinity;
  for (const client of clients.toSorted((one, other) => idOf(one) - idOf(other) || 0) as unknown[]) {
    const size = sizeOf(client);
    if (bytes + size > partBytes || parts.at(-1)?.length === partClients) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push(client);
    bytes += size;
  }
  return parts.map((part) => ({ version, clients: part }));
}

const sizeOf = (value: unknown) => Buffer.byteLength(JSON.stringify(value)) + 1;

/** The API sees one part at a time. */
function refuseTwice(clients: readonly unknown[]): void {
  const seen = new Set<unknown>();
  for (const client of clients) {
    const name = (client as { api_client_id?: unknown } | null)?.api_client_id;
    if (name !== undefined && seen.has(name))
      throw new CliError(`The api_client_id ${JSON.stringify(name)} is there twice.`, exitCodes.usage);
    seen.add(name);
  }
}

async function inPart(parts: readonly unknown[], index: number, work: () => Promise<Applied>): Promise<Applied> {
  try {
    return await work();
  } catch (error) {
    if (parts.length === 1 || !(error instanceof CliError)) throw error;
    const place = `In part ${index + 1} of ${parts.length}, each of up to ${partClients} clients by id`;
    throw new CliError(`${place}: ${error.message}`, error.exitCode, error);
  }
}

function join(all: readonly Applied[]): Applied {
  const sum = (name: 'created' | 'updated' | 'deleted' | 'unchanged') =>
    all.reduce((total, one) => total + one[name], 0);
  return {
    dry_run: all.at(-1)?.dry_run ?? true,
    revision: all.at(-1)?.revision ?? 0,
    created: sum('created'),
    updated: sum('updated'),
    deleted: sum('deleted'),
    unchanged: sum('unchanged'),
    changes: all.flatMap(({ changes }) => changes),
  };
}

const signs = { create: ['green', '+'], update: ['yellow', '~'], delete: ['red', '-'] } as const;

export function showPlan(plan: Applied, output: Output): void {
  if (output.format === 'json') {
    output.json(plan);
    return;
  }
  const { created, updated, deleted, unchanged } = plan;
  for (const { action, api_client_id: name, id, fields, ...keys } of plan.changes) {
    const [colour, sign] = signs[action];
    output.line(output.paint(colour, `${sign} ${name}${id === null ? '' : ` (${id})`}`));
    for (const { name: field, from, to } of action === 'delete' ? [] : fields)
      output.line(`    ${field}: ${action === 'create' ? '' : `${JSON.stringify(from)} -> `}${JSON.stringify(to)}`);
    for (const hint of keys.keys_added) output.line(output.paint('green', `    + key ${hint}`));
    for (const hint of keys.keys_removed) output.line(output.paint('red', `    - key ${hint}`));
  }
  output.line(`plan: ${created} to create, ${updated} to update, ${deleted} to delete, ${unchanged} as they are`);
}
