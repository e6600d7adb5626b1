import { join } from 'node:path';
import { gatewayCommand } from '../../src/local/stack.ts';
import type { Bench } from '../bench.ts';
import { accepts, pathOnly, startServer } from '../process.ts';
import type { Target } from '../set-ups/set-up.ts';
import { postgresDatabase } from './database.ts';
import { startFront } from './shipped-front.ts';

const clients = 10;

/** So many gateways on one PostgreSQL, behind our nginx. */
export async function severalGateways(bench: Bench, count: number): Promise<Omit<Target, 'credentials'>> {
  const url = await bench.shared('database of gateways', () => postgresDatabase(bench, 'gateways', clients));
  const folders: string[] = [];
  const pids: number[] = [];
  for (let index = 1; index <= count; index++) {
    const name = `gateway-${index}-of-${count}`;
    const folder = bench.folder(name);
    const decision = join(folder, 'decision.sock');
    const { pid } = await startServer(bench, {
      name,
      command: gatewayCommand(bench.root),
      env: {
        ...pathOnly(bench),
        DATABASE_URL: url,
        APIGW_DECISION_LISTEN: `unix:${decision}`,
        APIGW_MANAGEMENT_LISTEN: `unix:${join(folder, 'management.sock')}`,
      },
      isReady: () => accepts(decision),
    });
    folders.push(folder);
    pids.push(pid);
  }
  const front = await startFront(bench, `front-of-${count}`, folders.join(' '));
  return { ...front, processes: { ...front.processes, gateway: pids }, refusesStrangers: true };
}
