/** What a command ends with, for scripts. docs/command-line.md has this table. */
export const exitCodes = {
  done: 0,
  /** It failed, and the message says why; of doctor and check-config: something is wrong. */
  failed: 1,
  /** The command line, or a value on it, is not allowed. */
  usage: 2,
  notFound: 3,
  /** The credential is not accepted, or may not do this. */
  refused: 4,
  /** Something stands against it as things are: another client of that name, the last administrator, a changed plan. */
  conflict: 5,
  /** Done and kept, but not every gateway had followed when the time of --wait was up. */
  pending: 6,
  /** sysexits.h EX_UNAVAILABLE: the gateway or its database does not answer; try again. */
  unavailable: 69,
  /** sysexits.h EX_CONFIG: a setting in the environment is wrong. */
  settings: 78,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A failure in words for the person at the terminal. */
export class CliError extends Error {
  override readonly name: string = 'CliError';
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode = exitCodes.failed, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.exitCode = exitCode;
  }
}
