/** What a worker asks all others. */
export type Question = ForgetClient | SayMetrics | SayDenial;

/** It has changed: forget what is known of it. */
interface ForgetClient {
  readonly about: 'client';
  readonly id: number;
}

interface SayMetrics {
  readonly about: 'metrics';
}

/** Whether it remembers a refusal. */
interface SayDenial {
  readonly about: 'denial';
  readonly requestId: string;
}

/** The other workers of this gateway. */
export interface Peers {
  /** Must come before the first listener: from now on every question arrives here. */
  readonly join: (answer: (question: Question) => unknown) => void;
  /** The answers of all others; undefined when one of them has not answered within a second. */
  readonly ask: (question: Question) => Promise<readonly unknown[] | undefined>;
}

export interface Addresses {
  readonly decisionAddress: string;
  readonly managementAddress: string;
}

export type ToPrimary =
  | { readonly type: 'joined' }
  | { readonly type: 'started'; readonly addresses: Addresses }
  | { readonly type: 'ask'; readonly number: number; readonly question: Question }
  | { readonly type: 'answer'; readonly number: number; readonly answer: unknown };

export type ToWorker =
  | { readonly type: 'question'; readonly number: number; readonly question: Question }
  | { readonly type: 'answers'; readonly number: number; readonly answers?: readonly unknown[] };

/** Milliseconds that a worker may take to answer another one. */
export const patience = 1_000;
/** Longer, so that the primary has ended who is silent and says so; below nginx's 4 s. */
const askerPatience = 3 * patience;

export function sendToPrimary(message: ToPrimary): void {
  // a primary that is gone ends this worker by itself: node:cluster exits on 'disconnect'
  if (process.connected) process.send?.(message);
}

/** The peers of this worker; the primary passes everything on. */
export function connectPeers(): Peers {
  const waiting = new Map<number, (answers: readonly unknown[] | undefined) => void>();
  let last = 0;

  return {
    join(answer) {
      process.on('message', (message: ToWorker) => {
        if (message.type === 'answers') {
          waiting.get(message.number)?.(message.answers);
          return;
        }
        const { number, question } = message;
        void Promise.resolve(answer(question)).then((said) => {
          sendToPrimary({ type: 'answer', number, answer: said ?? null });
        });
      });
      sendToPrimary({ type: 'joined' });
    },
    ask(question) {
      const number = ++last;
      return new Promise((resolve) => {
        const settle = (answers?: readonly unknown[]) => {
          clearTimeout(timer);
          waiting.delete(number);
          resolve(answers);
        };
        const timer = setTimeout(settle, askerPatience);
        waiting.set(number, settle);
        sendToPrimary({ type: 'ask', number, question });
      });
    },
  };
}
