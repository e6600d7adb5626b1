import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { CliError, exitCodes, type ExitCode } from './exit-codes.ts';

/** The management API, wherever it is. */
export interface Api {
  /** @throws {ApiProblem} */
  call<T>(method: string, path: string, options?: CallOptions): Promise<T>;
  /** Every page of a list, one after the other. */
  pages<T>(path: string, query?: Query): AsyncGenerator<T[]>;
  /** An answer as it comes. */
  open(path: string, query?: Query): Promise<IncomingMessage>;
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface CallOptions {
  readonly query?: Query;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Where the API is, and what to say there. */
export interface Target {
  /** As it stands in messages. */
  readonly name: string;
  readonly isTls: boolean;
  readonly options: RequestOptions;
  readonly headers: Readonly<Record<string, string>>;
}

interface ProblemBody {
  readonly status: number;
  readonly reason?: string;
  readonly detail?: string;
  readonly errors?: readonly { readonly pointer?: string; readonly parameter?: string; readonly detail: string }[];
  readonly request_id?: string;
}

/** The API has refused a call. */
export class ApiProblem extends CliError {
  override readonly name = 'ApiProblem';
  readonly status: number;
  readonly reason: string;

  constructor(status: number, problem: Partial<ProblemBody>) {
    super(describe(status, problem), exitCodeOf(status));
    this.status = status;
    this.reason = problem.reason ?? '';
  }
}

/** Milliseconds without a byte. */
const patience = 65_000;
/** Of a call for which there are too many from this address. */
const attempts = 5;
/** Seconds. */
const longestWait = 60;

export function createApi(target: Target): Api {
  async function open(
    method: string,
    path: string,
    { query = {}, body, headers = {} }: CallOptions,
  ): Promise<IncomingMessage> {
    const parameters = new URLSearchParams(
      Object.entries(query).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, String(value)] as [string, string]],
      ),
    ).toString();
    const wholePath = parameters === '' ? path : `${path}?${parameters}`;
    for (let attempt = 1; ; attempt++) {
      const response = await send(target, method, wholePath, body, headers);
      const { statusCode: status = 0 } = response;
      if (status < 300) return response;
      const text = await read(response);
      const wait = Number(response.headers['retry-after'] ?? 1);
      // nginx says it before the gateway has heard of the call, so that nothing is done twice
      if (status !== 429 || attempt >= attempts || !(wait <= longestWait))
        throw new ApiProblem(status, parse(text) ?? {});
      await delay(wait * 1_000);
    }
  }

  return {
    async call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
      const text = await read(await open(method, path, options));
      return (text === '' ? undefined : JSON.parse(text)) as T;
    },
    async *pages<T>(path: string, query: Query = {}): AsyncGenerator<T[]> {
      let next: string | undefined = path;
      let options: CallOptions = { query };
      while (next !== undefined) {
        const response = await open('GET', next, options);
        const { link } = response.headers;
        yield JSON.parse(await read(response)) as T[];
        next = /<([^>]+)>; rel="next"/.exec(String(link ?? ''))?.[1];
        options = {};
      }
    },
    open: (path, query = {}) => open('GET', path, { query }),
  };
}

function send(
  target: Target,
  method: string,
  path: string,
  body: unknown,
  headers: Readonly<Record<string, string>>,
): Promise<IncomingMessage> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const request = (target.isTls ? httpsRequest : httpRequest)(
      {
        ...target.options,
        method,
        path,
        agent: false,
        timeout: patience,
        headers: {
          Accept: 'application/json',
          ...target.headers,
          ...headers,
          ...(text !== undefined && {
            'Content-Type': 'application/json',
            'Content-Length': String(Buffer.byteLength(text)),
          }),
        },
      },
      resolve,
    );
    request.on('timeout', () => request.destroy(new Error(`no answer within ${patience / 1_000} s`)));
    request.on('error', (error: NodeJS.ErrnoException) => {
      reject(new CliError(`${target.name} does not answer: ${explainFailure(error)}`, exitCodes.unavailable, error));
    });
    request.end(text);
  });
}

async function read(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response) text += String(chunk);
  return text;
}

function parse(text: string): Partial<ProblemBody> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Why nobody answers, in words. */
export function explainFailure({ code, message }: NodeJS.ErrnoException): string {
  switch (code) {
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      return `its certificate is not signed by an authority that is known here; name it with --ca-file (${code})`;
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `its certificate is for another name (${message})`;
    case 'ENOENT':
      return 'nothing listens there';
    default:
      return message || (code ?? 'unknown error');
  }
}

function describe(
  status: number,
  { detail, reason, errors = [], request_id: requestId }: Partial<ProblemBody>,
): string {
  const places = errors.map(({ pointer, parameter, detail: fault }) => `  ${pointer ?? parameter ?? ''} ${fault}`);
  const trace = requestId === undefined ? '' : `, request ${requestId}`;
  const head = `${detail ?? 'The answer is no problem document; is this the gateway?'} (${status} ${reason ?? ''}${trace})`;
  // the first fault is in the sentence already
  return places.length > 1 ? [head, ...places].join('\n') : head;
}

function exitCodeOf(status: number): ExitCode {
  if (status === 400 || status === 413 || status === 422) return exitCodes.usage;
  if (status === 401 || status === 403) return exitCodes.refused;
  if (status === 404) return exitCodes.notFound;
  if (status === 409) return exitCodes.conflict;
  return [429, 502, 503, 504].includes(status) ? exitCodes.unavailable : exitCodes.failed;
}
