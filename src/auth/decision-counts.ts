import type { Authenticate } from './authenticator.ts';
import { parseCredential } from './credential.ts';
import { denialDetails, type Decision, type DenialReason } from './decision.ts';

/** What a request presented: the label `method`. */
export type Method = 'api_key' | 'jwt' | 'none';

type Outcome = Decision['outcome'];

/** Decisions since the start. Every counter exists from the beginning, so the labels are bounded by the code. */
export interface DecisionCounts {
  readonly granted: Record<Method, number>;
  readonly denied: Readonly<
    Record<Exclude<Outcome, 'granted'>, Readonly<Record<Method, Record<DenialReason, number>>>>
  >;
}

export interface DecisionCount {
  readonly outcome: Outcome;
  readonly reason: DenialReason | '';
  readonly method: Method;
  readonly count: number;
}

export function createDecisionCounts(): DecisionCounts {
  const reasons = () =>
    Object.fromEntries(Object.keys(denialDetails).map((reason) => [reason, 0])) as Record<DenialReason, number>;
  const methods = () => ({ api_key: reasons(), jwt: reasons(), none: reasons() });
  return {
    granted: { api_key: 0, jwt: 0, none: 0 },
    denied: { unauthenticated: methods(), forbidden: methods(), unavailable: methods() },
  };
}

/** Counts what it decides: for a grant, one number goes up. */
export function countDecisions(authenticate: Authenticate, counts: DecisionCounts): Authenticate {
  const count = (decision: Decision, authorization: string | undefined): Decision => {
    if (decision.outcome === 'granted') counts.granted[decision.principal.method]++;
    else counts.denied[decision.outcome][methodOf(authorization)][decision.reason]++;
    return decision;
  };
  return (policy, presented) => {
    const { authorization } = presented;
    const decision = authenticate(policy, presented);
    if (!(decision instanceof Promise)) return count(decision, authorization);
    return decision.then((settled) => count(settled, authorization));
  };
}

/** Those that are not zero, and grants in any case. */
export function listDecisions({ granted, denied }: DecisionCounts): DecisionCount[] {
  const grants = (['api_key', 'jwt'] as const).map((method): DecisionCount => ({
    outcome: 'granted',
    reason: '',
    method,
    count: granted[method],
  }));
  const denials = entries(denied).flatMap(([outcome, byMethod]) =>
    entries(byMethod).flatMap(([method, byReason]) =>
      entries(byReason).map(([reason, count]): DecisionCount => ({ outcome, reason, method, count })),
    ),
  );
  return [...grants, ...denials.filter(({ count }) => count > 0)];
}

export function methodOf(authorization: string | undefined): Method {
  const { scheme } = parseCredential(authorization);
  if (scheme === 'apk') return 'api_key';
  return scheme === 'bearer' ? 'jwt' : 'none';
}

function entries<K extends string, V>(record: Readonly<Record<K, V>>): [K, V][] {
  return Object.entries(record) as [K, V][];
}
