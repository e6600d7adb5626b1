import { pino, type DestinationStream, type Logger } from 'pino';
import type { LogLevel } from './config.ts';

export type { Logger };

/** Whatever is logged under one of these names is a mistake; it is replaced, not printed. */
const secretNames = ['authorization', 'token', 'secret', 'digest', 'password', 'cookie'];

/** Anything shaped like an API key (`.` may be escaped, as in a path) or a JWT. */
const credentialShapes = /[1-9][0-9]{0,18}(?:\.|%2E)[A-Za-z0-9]{64}|eyJ[\w-]+\.[\w-]+\.[\w-]+/gi;

/** The text without the credentials in it. */
export function redact(text: string): string {
  return text.replace(credentialShapes, '[redacted]');
}

/** A full disk or a reader that is gone costs log lines, never the gate. */
function standardOutput(): DestinationStream {
  const output = pino.destination(1);
  output.on('error', () => undefined);
  return output;
}

/**
 * JSON lines on standard output, one per event, time in RFC 3339 UTC. What `mixin` returns, a new object for each line, is
 * in the line.
 */
export function createLog(level: LogLevel, destination?: DestinationStream, mixin?: () => object): Logger {
  const output = destination ?? standardOutput();
  return pino(
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
}
