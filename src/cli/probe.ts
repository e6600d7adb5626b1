import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { explainFailure } from './api.ts';
import { CliError, exitCodes } from './exit-codes.ts';

export interface ProbeAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most 64 KB. */
  readonly body: string;
}

export interface ProbeOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** As it stands in the request line; undefined for that of the URL. */
  readonly path?: string;
  /** Of a request that has something to hide; undefined for any server. */
  readonly trust?: Pick<RequestOptions, 'ca' | 'rejectUnauthorized'>;
}

const maxBody = 64 * 1024;

/** One request from outside, whatever the certificate unless it must be trusted. @throws {CliError} when nobody answers */
export function probe(
  url: string,
  { method = 'GET', headers = {}, path, trust }: ProbeOptions = {},
): Promise<ProbeAnswer> {
  const { protocol, hostname, port, pathname, search } = new URL(url);
  return new Promise((resolve, reject) => {
    const options = {
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port === '' ? undefined : port,
      method,
      path: path ?? pathname + search,
      agent: false,
      timeout: 10_000,
      ...(trust ?? { rejectUnauthorized: false }),
      headers: headers as Record<string, string | string[]>,
    };
    const request = (protocol === 'https:' ? httpsRequest : httpRequest)(options, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body.length < maxBody ? (body += chunk) : undefined));
      const settle = () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: body.slice(0, maxBody) });
      };
      response.on('end', settle);
      response.on('error', settle);
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 10 s')));
    request.on('error', (error) => {
      reject(new CliError(`${url} does not answer: ${explainFailure(error)}`, exitCodes.unavailable, error));
    });
    request.end();
  });
}
