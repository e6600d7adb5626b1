import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createTokenVerifier } from './auth/access-token.ts';
import { createAuthenticator } from './auth/authenticator.ts';
import { createPolicyCompiler } from './auth/policy.ts';
import { createApiClients, type ApiClients } from './clients/api-clients.ts';
import { createApiKeys } from './clients/api-keys.ts';
import { createClientDirectory } from './clients/client-directory.ts';
import { createDeclarations } from './clients/declarations.ts';
import { createGateways } from './clients/gateways.ts';
import type { Config } from './config.ts';
import type { FindDenial } from './http/decision-routes.ts';
import { createHttpServer, listen } from './http/listener.ts';
import { createOperatorApp } from './http/management-app.ts';
import { createLog } from './log.ts';
import { createIssuers } from './oidc/issuers.ts';
import { createGatewayStore } from './store/gateways.ts';
import { keepCopyBeforeUpgrade, openStore } from './store/open-store.ts';

/** The management API on the local database, for the process that opened it. */
export interface OperatorApi {
  readonly socketPath: string;
  readonly clients: ApiClients;
  close(): Promise<void>;
}

/**
 * Serves the management API from the local database on a socket that this user alone can reach: whoever may read and write
 * the database may do all that it offers. A gateway on the same database follows every change within a second.
 *
 * @param operator as the audit trail names who does it
 * @param findDenial what a running gateway remembers
 * @throws {Error} when the database cannot be opened
 */
export async function openOperatorApi(config: Config, operator: string, findDenial: FindDenial): Promise<OperatorApi> {
  await keepCopyBeforeUpgrade(config.database);
  const { database, store } = await openStore(config.database);
  const folder = mkdtempSync(join(tmpdir(), 'apigw-'));
  const removeFolder = () => {
    rmSync(folder, { recursive: true, force: true });
  };
  // when the process is ended before it is done
  process.once('exit', removeFolder);
  try {
    chmodSync(folder, 0o700);
    const now = Date.now;
    const monotonicNow = () => performance.now();
    const directory = createClientDirectory({ store, monotonicNow });
    const issuers = createIssuers({
      monotonicNow,
      onFailure: () => undefined,
      onLoaded: () => undefined,
      times: { staleLimit: config.staleKeysLifetime },
    });
    const hasImportedKeys = await store.hasImportedKeys();
    const examine = createAuthenticator({
      findClient: directory.find,
      findClientByApiClientId: directory.findByApiClientId,
      verifyToken: createTokenVerifier({ findKeys: issuers.find, now }),
      hasImportedKeys: () => hasImportedKeys,
      now,
      onUsed: () => undefined,
    });
    const domain = { store, now, onChange: directory.forget };
    const clients = createApiClients({ ...domain, flushUses: () => Promise.resolve(new Set()) });
    const app = createOperatorApp({
      operator,
      api: {
        clients,
        keys: createApiKeys(domain),
        declarations: createDeclarations(domain),
        gateways: createGateways(createGatewayStore(database)),
        store,
        examine,
        findDenial,
        now,
      },
      compilePolicy: createPolicyCompiler({ allowInsecureHttp: config.allowInsecureHttp }),
      // what goes wrong is in the answer
      log: createLog('fatal'),
    });
    const handle = app.callback();
    const socketPath = join(folder, `${randomBytes(4).toString('hex')}.sock`);
    const listener = await listen(
      { kind: 'unix', path: socketPath },
      createHttpServer((request, response) => {
        void handle(request, response);
      }),
    );
    return {
      socketPath,
      clients,
      async close() {
        await listener.close();
        removeFolder();
        await database.close();
      },
    };
  } catch (error) {
    removeFolder();
    await database.close();
    throw error;
  }
}
