import { pino, type DestinationStream, type Logger } from 'pino';
import type { LogLevel } from './config.ts';
import { redact } from './redact.ts';

export type { Logger };

/** Whatever is logged under one of these names is a mistake; it is replaced, not printed. */
const secretNames = ['authorization', 'token', 'secret', 'digest', 'password', 'cookie'];

/** Bytes of lines that wait for a reader; some ten thousand lines. What is more is lost, and counted. */
const maxWaiting = 4 * 1024 * 1024;
/** Times 100 ms that the end of the process waits for a reader. */
const patience = 10;

/**
 * A full disk, or a reader that is gone or has stopped, costs log lines, never the gate: nothing waits for them, and what
 * waits to be read is bounded.
 */
function standardOutput(onLost: (lines: number) => void): DestinationStream {
  let lost = 0;
  let isEnding = false;
  let attempts = 0;
  const output = pino.destination({
    dest: 1,
    sync: false,
    maxLength: maxWaiting,
    retryEAGAIN: () => !isEnding || ++attempts < patience,
  });
  output.on('error', () => undefined);
  output.on('drop', () => lost++);
  output.on('drain', () => {
    if (lost === 0) return;
    const lines = lost;
    lost = 0;
    onLost(lines);
  });
  process.prependListener('exit', () => {
    isEnding = true;
    try {
      output.flushSync();
    } catch {
      // nobody reads
    }
    output.destroy();
  });
  return output;
}

/**
 * JSON lines on standard output, one per event, time in RFC 3339 UTC. What `mixin` returns, a new object for each line, is
 * in the line.
 */
export function createLog(level: LogLevel, destination?: DestinationStream, mixin?: () => object): Logger {
  const output =
    destination ??
    standardOutput((lines) => {
      log.warn({ lines }, 'log lines were lost: nobody read the standard output');
    });
  const log = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretNames.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
      hooks: { streamWrite: redact },
      ...(mixin && { mixin }),
    },
    output,
  );
  return log;
}
