import Router from '@koa/router';
import { digestSecret, isSameDigest, parseApiKey, type ApiKeyCredential } from '../auth/api-key.ts';
import type { Authenticate } from '../auth/authenticator.ts';
import { denialDetails, type Decision } from '../auth/decision.ts';
import { findingOf } from '../auth/findings.ts';
import type { Policy } from '../auth/policy.ts';
import { toTime } from '../clients/api-client.ts';
import type { ApiClients } from '../clients/api-clients.ts';
import type { ApiKeys } from '../clients/api-keys.ts';
import type { ClientWithKeys } from '../clients/client-store.ts';
import type { Logger } from '../log.ts';
import { Problem } from '../problem.ts';
import { reasons } from '../reasons.ts';
import { readJsonBody } from './json-body.ts';
import type { ManagementState } from './management-app.ts';
import { presentClient, presentKey } from './present-client.ts';
import { introspectRequest, noQuery, parseBody, parseQuery, tokenRequest } from './schemas.ts';

// nginx limits these paths by address, and knows them in this spelling
const exact = { prefix: '/v1/management', strict: true, sensitive: true };

export interface IntrospectionOptions {
  /** Leaves no trace: neither a use nor a count. */
  readonly authenticate: Authenticate;
  readonly clients: Pick<ApiClients, 'find' | 'findByApiClientId'>;
  /** What the caller's server accepts. */
  readonly policyOf: (rawHeaders: readonly string[]) => Policy;
  readonly now: () => number;
}

/** `POST /v1/management/introspect`, for administrators: what a credential is, and why it is accepted or not. */
export function createIntrospectionRoute(options: IntrospectionOptions): Router<ManagementState> {
  const { authenticate, clients, policyOf, now } = options;
  const router = new Router<ManagementState>(exact);

  router.post('/introspect', async (context) => {
    parseQuery(noQuery, context.query);
    const { token, address } = parseBody(introspectRequest, await readJsonBody(context.req));
    const clientAddress = address ?? context.state.clientAddress;
    const authorization = toAuthorization(token);
    const apiKey = toApiKey(token);
    const policy = policyOf(context.req.rawHeaders);
    const decision = await authenticate(policy, { authorization, clientAddress });
    const client = apiKey ? await findById(apiKey.clientId) : await findClientOf(decision);
    const digest = apiKey && digestSecret(apiKey.secret);
    const key = digest && client?.keys.find((one) => isSameDigest(one.digest, digest));
    const isActive = decision.outcome === 'granted';
    const finding = isActive ? undefined : findingOf(decision.reason, policy, { authorization, clientAddress }, now());
    context.body = {
      active: isActive,
      type: apiKey ? 'api_key' : 'access_token',
      reason: isActive ? null : decision.reason,
      detail: isActive ? null : explain(decision.reason, apiKey, client, clientAddress),
      expected: finding?.expected ?? null,
      seen: finding?.seen ?? null,
      remedy: isActive ? null : reasons[decision.reason].remedy,
      address: clientAddress || null,
      expires_at: isActive ? toTime(decision.expiresAt) : null,
      client: client ? presentClient(client, now()) : null,
      ...(apiKey ? { key: key ? presentKey(key, now()) : null } : { token: traceOf(decision) }),
    };
  });

  async function findById(id: string): Promise<ClientWithKeys | undefined> {
    return Number.isSafeInteger(Number(id)) ? clients.find(Number(id)) : undefined;
  }

  async function findClientOf(decision: Decision): Promise<ClientWithKeys | undefined> {
    if (decision.outcome === 'granted') return clients.find(decision.principal.id);
    const name = traceOf(decision)?.client_id;
    return name === undefined ? undefined : clients.findByApiClientId(name);
  }

  return router;
}

/** `POST /v1/management/report-leak`: whoever has a key may end it, and need not say who he is. */
export function createLeakRoute(keys: Pick<ApiKeys, 'reportLeak'>, log: Logger): Router<ManagementState> {
  const router = new Router<ManagementState>(exact);

  router.post('/report-leak', async (context) => {
    parseQuery(noQuery, context.query);
    const { token } = parseBody(tokenRequest, await readJsonBody(context.req));
    const credential = toApiKey(token);
    if (!credential) {
      throw new Problem(
        400,
        'not_an_api_key',
        '/token must be an API key, <id>.<64 characters>. An access token ends at its issuer.',
        { errors: [{ pointer: '/token', detail: 'must be an API key' }] },
      );
    }
    const { requestId, clientAddress } = context.state;
    const actor = { clientId: null, requestId, ...(clientAddress && { address: clientAddress }) };
    const isRevoked = await keys.reportLeak(credential, actor, clientAddress);
    if (!isRevoked) throw new Problem(404, 'unknown_key', 'There is no such API key.');
    log.warn(
      { client_id: Number(credential.clientId), request_id: requestId, address: clientAddress },
      'an API key was reported as leaked and is refused from now on',
    );
    context.status = 204;
  });

  return router;
}

/** With or without the scheme before it. */
function toApiKey(token: string): ApiKeyCredential | undefined {
  return parseApiKey(token.trim().replace(/^apk +/i, ''));
}

function toAuthorization(token: string): string {
  const text = token.trim();
  if (/^[A-Za-z]+ /.test(text)) return text;
  return toApiKey(text) ? `apk ${text}` : `Bearer ${text}`;
}

function traceOf(decision: Decision) {
  return 'token' in decision ? decision.token : undefined;
}

/** More than the holder of the credential is told. */
function explain(
  reason: keyof typeof denialDetails,
  apiKey: ApiKeyCredential | undefined,
  client: ClientWithKeys | undefined,
  address: string,
): string {
  switch (reason) {
    case 'unknown_key':
      return client ? 'The API client has no such key.' : `There is no API client ${apiKey?.clientId ?? ''}.`;
    case 'key_revoked':
      return 'The API key was reported as leaked.';
    case 'client_disabled':
      return 'The API client is disabled.';
    case 'client_expired':
      return 'The API client has expired.';
    case 'address_not_allowed':
      return `The allowed_cidrs of the API client do not have the address ${address || '(unknown)'}.`;
    default:
      return denialDetails[reason];
  }
}
