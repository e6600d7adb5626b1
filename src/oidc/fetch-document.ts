import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';

/** How an issuer is spoken to. */
export interface Transport {
  /** PEM certificates to trust instead of the system's; undefined for the system's. */
  readonly ca: string | undefined;
  /** False accepts any certificate. */
  readonly verifyCertificate: boolean;
}

const maxBytes = 256 * 1024;

/** A document could not be fetched; the message is a sentence that says what to change. */
export class FetchError extends Error {
  override readonly name = 'FetchError';
}

/** Rejects with a FetchError alone. */
export type FetchDocument = (url: URL, transport: Transport, signal: AbortSignal) => Promise<Response>;

/**
 * GETs a JSON document of at most 256 KB. No redirect is followed: where an issuer's documents are is said by
 * configuration, not by an answer.
 *
 * @throws {FetchError}
 */
export function fetchDocument(url: URL, transport: Transport, signal: AbortSignal): Promise<Response> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      reject(error instanceof FetchError ? error : new FetchError(explain(url, error, signal), { cause: error }));
    };
    const options: RequestOptions = {
      agent: false,
      signal,
      headers: { Accept: 'application/json', 'Accept-Encoding': 'identity', 'User-Agent': 'apigw' },
      rejectUnauthorized: transport.verifyCertificate,
      ...(transport.ca !== undefined && { ca: transport.ca }),
    };
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = send(url, options, (response) => {
      const status = response.statusCode ?? 0;
      const chunks: Buffer[] = [];
      let size = 0;
      if (status !== 200) {
        request.destroy(new FetchError(`${url.href} answers ${status} where 200 is needed${redirection(status)}.`));
        return;
      }
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > maxBytes) request.destroy(new FetchError(`${url.href} sends more than ${maxBytes} bytes.`));
        else chunks.push(chunk);
      });
      response.on('error', fail);
      response.on('end', () => {
        const contentType = response.headers['content-type'] ?? '';
        resolve(new Response(Buffer.concat(chunks), { status, headers: { 'Content-Type': contentType } }));
      });
    });
    request.on('error', fail);
    request.end();
  });
}

function redirection(status: number): string {
  return status >= 300 && status < 400 ? '; redirects are not followed, so use the final URL' : '';
}

/** OpenSSL's and the system's names for what goes wrong, in words. */
const causes: Readonly<Record<string, string>> = {
  ENOTFOUND: 'its host name is not known; check $oidc_discovery',
  EAI_AGAIN: 'its host name cannot be looked up at the moment',
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was cut',
  EHOSTUNREACH: 'there is no route to it',
  ENETUNREACH: 'there is no route to it',
  EPROTO: 'it does not speak TLS there; check the scheme and port of $oidc_discovery',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS there; check the scheme and port of $oidc_discovery',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host name',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed; name its CA in $oidc_ca_file',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is from a private CA; name that CA in $oidc_ca_file',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is from an unknown CA; name that CA in $oidc_ca_file',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is from an unknown CA; name that CA in $oidc_ca_file',
};

function explain(url: URL, error: unknown, signal: AbortSignal): string {
  if (signal.aborted) return `${url.href} did not answer within 3 s.`;
  const { code = '', message } = error as NodeJS.ErrnoException;
  return `${url.href} cannot be fetched: ${causes[code] ?? message}.`;
}
