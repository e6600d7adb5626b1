import { InvalidArgumentError, type Command } from 'commander';
import { exitCodes } from '../exit-codes.ts';
import type { Output } from '../output.ts';

/** What an answer has when the time is up. */
interface Waited {
  readonly propagation?: {
    readonly pending:
      readonly { readonly gateway: string; readonly applied_revision: number; readonly last_seen_at: string }[] | null;
  };
}

export function addWait(command: Command): Command {
  return command.option('--wait <span>', 'until all gateways follow it: 1s to 3s', parseWait);
}

/** Says who is behind, after the result, and ends with a code of its own. */
export function notePending(answer: unknown, output: Output): void {
  const { propagation } = (answer ?? {}) as Waited;
  if (!propagation) return;
  process.exitCode = exitCodes.pending;
  if (!propagation.pending) output.note('the database did not tell whether all gateways follow it');
  for (const { gateway, applied_revision: revision, last_seen_at: seenAt } of propagation.pending ?? [])
    output.note(`not followed yet by ${gateway}: it is at revision ${revision}, and was last seen at ${seenAt}`);
}

/** @throws {InvalidArgumentError} */
function parseWait(text: string): string {
  if (/^[0-3]s?$/.test(text)) return text;
  throw new InvalidArgumentError('allowed: 0 to 3s');
}
