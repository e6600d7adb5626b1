import { nameOfDatabase, type DatabaseAddress } from '../database-address.ts';
import type { Database } from './database.ts';

export interface Examined {
  readonly isSound: boolean;
  readonly seen: string;
  /** For when it is not. */
  readonly remedy: string;
}

/** Looks at a database that is open, for the one who operates it. */
export async function examineDatabase(address: DatabaseAddress, { read, dialect }: Database): Promise<Examined> {
  const name = nameOfDatabase(address);
  if (typeof address === 'string') {
    const [integrity]: { quick_check: string }[] = await read.raw('pragma quick_check(1)');
    const isSound = integrity?.quick_check === 'ok';
    return {
      isSound,
      seen: isSound ? `${name} is sound` : `${name}: ${integrity?.quick_check ?? 'no answer'}`,
      remedy: 'Restore the last backup: apigw restore < apigw-backup.db',
    };
  }
  const [server] = dialect.rowsOf<{ version: string; read_only: string; encrypted: number }>(
    await read.raw(
      `select current_setting('server_version') as version, current_setting('transaction_read_only') as read_only,
        exists (select 1 from pg_stat_ssl where pid = pg_backend_pid() and ssl) as encrypted`,
    ),
  );
  const isSound = server?.read_only === 'off';
  const tls = server?.encrypted ? 'encrypted' : 'not encrypted';
  return {
    isSound,
    seen: `${name} answers: PostgreSQL ${server?.version ?? ''}, ${isSound ? '' : 'read-only, '}${tls}`,
    remedy: 'Nothing can be changed in it. Is its disk full, or default_transaction_read_only on?',
  };
}
