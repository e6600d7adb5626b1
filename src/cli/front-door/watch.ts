import { requestBytes, send, type Exchange, type Target, type Watch } from './raw.ts';

/** How long an examination may take. Tests have less patience. */
export interface Limits {
  /** Milliseconds that one answer has to begin in. */
  readonly patience: number;
  /** Milliseconds after which nothing more is tried. */
  readonly total: number;
}

export const usualLimits: Limits = { patience: 4_000, total: 300_000 };

/** Answers in a row that did not come, after which it is asked whether anybody is there. */
const mostSilent = 3;

export function createWatch(target: Omit<Target, 'watch'>, { total }: Limits): Watch {
  const end = performance.now() + total;
  let silence: string | undefined;
  let silent = 0;
  return {
    ending: () => silence ?? (performance.now() < end ? undefined : `not tried: ${total / 1_000} s were over`),
    async note(exchange) {
      silent = isSilent(exchange) ? silent + 1 : 0;
      if (silent < mostSilent) return;
      // some of what is tried has no answer anywhere
      const failure = whyDeaf(await askPlainly(target));
      if (failure === undefined) silent = 0;
      else silence ??= `not tried: nothing is answered any more (${failure})`;
    },
  };
}

/** A request that every HTTP server answers, if only with 404. */
export function askPlainly(target: Omit<Target, 'watch'>): Promise<Exchange> {
  return send(target, requestBytes(target, { path: '/livez' }));
}

/** Why it makes no sense to ask for more, by the answer to a plain request. */
export function whyDeaf(exchange: Exchange): string | undefined {
  if (isSilent(exchange)) return exchange.failure ?? 'no answer';
  if (exchange.answers[0]?.status === 0) return 'what comes back is no HTTP';
  return undefined;
}

/** Who ends the connection has answered, too. */
function isSilent({ answers, hasContinued, isRefused }: Exchange): boolean {
  return answers.length === 0 && !hasContinued && !isRefused;
}
