import type { GatewayStore } from '../clients/gateways.ts';
import { orUnavailable } from './client-store.ts';
import type { Database } from './database.ts';

interface GatewayRow {
  id: string;
  name: string;
  applied_revision: number;
  seen_at: number;
}

/** What is written here is neither a change nor an event: the revision stays, and the audit trail too. */
export function createGatewayStore({ dialect, read, write, expectFile }: Database): GatewayStore {
  const ask = <T>(work: () => Promise<T>): Promise<T> =>
    orUnavailable(() => {
      expectFile();
      return work();
    });

  return {
    revision: () =>
      ask(async () => {
        const row = await read<{ value: number }>('revision').first('value');
        if (!row) throw new Error('the table revision is empty');
        return row.value;
      }),

    list: () =>
      ask(async () => {
        const rows = await read<GatewayRow>('gateways').orderBy(['name', 'id']);
        return rows.map(({ id, name, applied_revision: appliedRevision, seen_at: seenAt }) => ({
          id,
          name,
          appliedRevision,
          seenAt,
        }));
      }),

    put: ({ id, name, appliedRevision }) =>
      ask(async () => {
        await write('gateways')
          .insert({ id, name, applied_revision: appliedRevision, seen_at: write.raw(dialect.now) })
          .onConflict('id')
          .merge({ name, applied_revision: appliedRevision, seen_at: write.raw(dialect.nowInPassing) });
      }),

    remove: (id, seenAt) =>
      ask(async () => {
        const row = write<GatewayRow>('gateways').where('id', id);
        await (seenAt === undefined ? row : row.andWhere('seen_at', seenAt)).delete();
      }),
  };
}
