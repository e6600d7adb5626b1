import { createInterface } from 'node:readline/promises';
import { CliError, exitCodes } from '../exit-codes.ts';

/**
 * Asks before something is done that cannot be undone.
 *
 * @throws {CliError} when the answer is no, or nobody can be asked
 */
export async function confirm(question: string, isConfirmed: boolean | undefined): Promise<void> {
  if (isConfirmed) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new CliError(`${question} Nobody can be asked here: say it with --yes.`, exitCodes.usage);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `);
  terminal.close();
  if (!/^y(?:es)?$/i.test(answer.trim())) throw new CliError('Nothing was done.');
}
