import { reasons } from '../reasons.ts';

/** One kind of answer of the management API. All three are bounded by the code, and hold nothing that a caller chooses. */
export interface ManagementCall {
  readonly kind: 'read' | 'change';
  readonly status: number;
  /** Empty when the call was not refused. */
  readonly reason: string;
}

export interface ManagementCounts {
  readonly count: (method: string, status: number, reason: string) => void;
  readonly list: () => (ManagementCall & { readonly count: number })[];
}

/** Calls of the management API since the start; probes and metrics are none. */
export function createManagementCounts(): ManagementCounts {
  const counts = new Map<string, ManagementCall & { count: number }>();
  return {
    count(method, status, reason) {
      const kind = ['GET', 'HEAD', 'OPTIONS'].includes(method) ? 'read' : 'change';
      const known = reason === '' || reason in reasons ? reason : 'other';
      const name = `${kind} ${status} ${known}`;
      const counted = counts.get(name);
      if (counted) counted.count++;
      else counts.set(name, { kind, status, reason: known, count: 1 });
    },
    list: () => [...counts.values()],
  };
}
