import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { gatewayCommand } from '../../src/local/stack.ts';
import type { Bench } from '../bench.ts';
import { apiKeyOf } from '../load/credentials.ts';
import { accepts, freePort, pathOnly, startServer, type Server } from '../process.ts';

/** The gateway's process by itself. Its decision listener is on a port, because wrk knows no Unix sockets. */
export interface LoneGateway extends Server {
  readonly port: number;
  /** The management listener. */
  readonly managementSocket: string;
}

/** What nginx would send along. */
export const policyHeaders = { 'X-Policy-Api-Keys-Enabled': 'on' };

/** Resolves with its first granted decision; when it is to be whole, with the management API, which comes after that. */
export async function startLoneGateway(
  bench: Bench,
  name: string,
  databaseUrl: string,
  { isWhole = false } = {},
): Promise<LoneGateway> {
  const folder = bench.folder(name);
  const port = await freePort();
  const managementSocket = join(folder, 'management.sock');
  const server = await startServer(bench, {
    name,
    command: gatewayCommand(bench.root),
    env: {
      ...pathOnly(bench),
      DATABASE_URL: databaseUrl,
      APIGW_DECISION_LISTEN: `127.0.0.1:${port}`,
      APIGW_MANAGEMENT_LISTEN: `unix:${managementSocket}`,
    },
    isReady: async () =>
      (await decide(port, 1, new Agent()).catch(() => 0)) === 204 && (!isWhole || (await accepts(managementSocket))),
  });
  return { ...server, port, managementSocket };
}

/** The status of the decision on a client's key. */
export function decide(port: number, id: number, agent: Agent): Promise<number> {
  const headers = { ...policyHeaders, Authorization: apiKeyOf(id) };
  return new Promise((resolve, reject) => {
    const asking = request({ host: '127.0.0.1', port, path: '/decision', agent, headers }, (response) => {
      response.resume();
      response.once('end', () => {
        resolve(response.statusCode ?? 0);
      });
    });
    asking.on('error', reject);
    asking.end();
  });
}
