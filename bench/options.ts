import { parseArgs } from 'node:util';

/** How much is measured, and how long. */
export interface Options {
  readonly isQuick: boolean;
  /** Names of set-ups and measures; undefined is all of them. */
  readonly only: readonly string[] | undefined;
  readonly rounds: number;
  /** Of one measurement. */
  readonly seconds: number;
  /** API clients in the large database. */
  readonly manyClients: number;
  /** Requests after which the gateway's memory is read. */
  readonly memoryRequests: number;
  readonly isListWanted: boolean;
  /** Where the results go; undefined is bench/results. */
  readonly results: string | undefined;
}

/** A mistake on the command line, in words for the person who made it. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

const allowed = '--quick, --only a,b, --rounds n, --seconds n, --results dir, --list';

/** @throws {OptionError} */
export function readOptions(args: readonly string[], known: readonly string[]): Options {
  const values = parse(args);
  const isQuick = values.quick ?? false;
  return {
    isQuick,
    only: values.only === undefined ? undefined : readNames(values.only, known),
    rounds: readNumber('--rounds', values.rounds, isQuick ? 2 : 5),
    seconds: readNumber('--seconds', values.seconds, isQuick ? 2 : 5),
    manyClients: isQuick ? 100_000 : 1_000_000,
    memoryRequests: isQuick ? 200_000 : 1_000_000,
    isListWanted: values.list ?? false,
    results: values.results,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean' },
        only: { type: 'string' },
        rounds: { type: 'string' },
        seconds: { type: 'string' },
        results: { type: 'string' },
        list: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    const [sentence = ''] = (error as Error).message.split('. ');
    throw new OptionError(`${sentence.replace(/\.$/, '')}; allowed: ${allowed}.`, { cause: error });
  }
}

function readNames(text: string, known: readonly string[]): string[] {
  const names = text.split(',').filter((name) => name !== '');
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length === 0 && names.length > 0) return names;
  throw new OptionError(`--only: ${unknown.join(', ') || 'nothing'} is not among ${known.join(', ')}.`);
}

function readNumber(option: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  if (/^[1-9][0-9]{0,2}$/.test(text)) return Number(text);
  throw new OptionError(`${option} is ${JSON.stringify(text)}; allowed: a number from 1 to 999.`);
}
