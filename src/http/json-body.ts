import type { IncomingMessage } from 'node:http';
import { isUnsound } from '../auth/strict-json.ts';
import { Problem } from '../problem.ts';

const usualBytes = 64 * 1024;

/**
 * Reads a request's body as one JSON document (RFC 8259) of at most so many bytes.
 *
 * @throws {Problem} 400, 413 or 415, saying what is wrong
 */
export async function readJsonBody(request: IncomingMessage, maxBytes = usualBytes): Promise<unknown> {
  refuseOtherMediaTypes(request.headers);
  const text = decode(await readBytes(request, maxBytes));
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw new Problem(400, 'invalid_json', explain(text, error));
  }
  if (isUnsound(text)) {
    throw new Problem(400, 'invalid_json', 'The request body has a member twice, or is nested too deeply.');
  }
  return body;
}

/** The same, and an empty object when there is no body at all. */
export async function readOptionalJsonBody(request: IncomingMessage): Promise<unknown> {
  const { 'content-type': type, 'content-length': length = '0', 'transfer-encoding': coding } = request.headers;
  return type === undefined && length === '0' && coding === undefined ? {} : readJsonBody(request);
}

function explain(text: string, error: unknown): string {
  if (text.trim() === '') return 'The request body is empty; a JSON object is needed.';
  // the parser's stack is the bound on nesting
  return error instanceof RangeError ? 'The request body is nested too deeply.' : 'The request body is not JSON.';
}

function refuseOtherMediaTypes(headers: IncomingMessage['headers']): void {
  const type = headers['content-type'];
  if (!/^application\/json *(?:; *charset="?utf-8"? *)?$/i.test(type ?? '')) {
    throw new Problem(415, 'unsupported_media_type', 'The Content-Type must be application/json.', {
      headers: { Accept: 'application/json' },
    });
  }
  if (!/^(?:identity)?$/i.test(headers['content-encoding'] ?? '')) {
    throw new Problem(415, 'unsupported_media_type', 'A Content-Encoding is not accepted.', {
      headers: { 'Accept-Encoding': 'identity' },
    });
  }
}

async function readBytes(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = new Problem(413, 'body_too_large', `The request body has more than ${maxBytes} bytes.`, {
    headers: { Connection: 'close' },
  });
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Problem(400, 'invalid_json', 'The request body is not UTF-8.');
  }
}
