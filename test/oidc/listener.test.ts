import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { makeToken, startHostileIssuer } from '../support/hostile-issuer.ts';
import { freePorts } from '../support/stack.ts';

test('a management listener that others than nginx can reach believes no issuer that a request names', async () => {
  const issuer = await startHostileIssuer();
  const [port] = await freePorts(2);
  const env = {
    API_KEY_CREATE: 'true',
    OIDC_ALLOW_INSECURE_HTTP: 'true',
    APIGW_MANAGEMENT_LISTEN: `127.0.0.1:${port}`,
  };
  const gateway = await startGateway(undefined, env);
  const call = async (authorization: string, body?: object) => {
    const response = await fetch(`http://127.0.0.1:${port}/v1/management/api-clients`, {
      method: body ? 'POST' : 'GET',
      headers: {
        Authorization: authorization,
        'Content-Type': 'application/json',
        'X-Policy-Api-Keys-Enabled': 'on',
        'X-Policy-Open-Id-Connect-Enabled': 'on',
        'X-Policy-Oidc-Discovery': issuer.url,
        'X-Policy-Oidc-Audience': 'any',
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  };
  try {
    const admin = { api_client_id: 'abc123', is_admin: true, generate_api_key: false };
    assert.equal((await call(`apk ${gateway.firstKey()}`, admin)).status, 201);
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer.url, aud: 'x', sub: 'abc123', iat: now, exp: now + 60 };
    const token = makeToken({ alg: 'RS256', kid: 'rsa' }, claims, issuer.rsa);
    const { status, json } = await call(`Bearer ${token}`);
    assert.deepEqual([status, json['reason']], [401, 'method_disabled']);
    assert.deepEqual([...issuer.asked], []);
  } finally {
    await stopGateway(gateway);
    await issuer.close();
    rmSync(gateway.dir, { recursive: true });
  }
});
