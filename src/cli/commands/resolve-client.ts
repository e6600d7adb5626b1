import { isId } from '../../auth/api-key.ts';
import { redact } from '../../redact.ts';
import { ApiProblem, type Api, type Query } from '../api.ts';
import { CliError, exitCodes } from '../exit-codes.ts';

/** An API client as the management API shows it, as far as the command line reads it. */
export interface ShownClient {
  readonly id: number;
  readonly name: string;
  readonly api_client_id: string;
  readonly scopes: readonly string[];
  readonly tags: readonly string[];
  readonly is_admin: boolean;
  readonly enabled: boolean;
  readonly has_api_key: boolean;
  readonly expires_at: string | null;
  readonly last_used_at: string | null;
  readonly created_at: string;
  readonly token?: string;
}

export const clientsPath = '/v1/management/api-clients';

/**
 * The API client with that id, that `api_client_id`, or that name if no other has it.
 *
 * @throws {CliError} when there is none, or more than one
 */
export async function resolveClient(api: Api, text: string): Promise<ShownClient> {
  const [identified] = await find(api, { api_client_id: text });
  const numbered = isId(text) ? await findById(api, text) : undefined;
  if (identified && numbered && identified.id !== numbered.id) throw severalOf(text, [numbered, identified]);
  const client = identified ?? numbered;
  if (client) return client;
  const named = (await find(api, { name: text })).filter(({ name }) => name === text);
  const [first] = named;
  if (named.length > 1) throw severalOf(text, named);
  if (first) return first;
  throw new CliError(`There is no API client ${JSON.stringify(redact(text))}: apigw clients list`, exitCodes.notFound);
}

function severalOf(text: string, clients: readonly ShownClient[]): CliError {
  const ids = clients.map(({ id, api_client_id: name }) => `${id} (${name})`);
  return new CliError(
    `${JSON.stringify(text)} may be one of several API clients: ${ids.join(', ')}.`,
    exitCodes.conflict,
  );
}

function find(api: Api, query: Query): Promise<ShownClient[]> {
  return api.call<ShownClient[]>('GET', clientsPath, { query });
}

async function findById(api: Api, id: string): Promise<ShownClient | undefined> {
  return api.call<ShownClient>('GET', `${clientsPath}/${id}`).catch((error: unknown) => {
    if (error instanceof ApiProblem && error.status === 404) return undefined;
    throw error;
  });
}
