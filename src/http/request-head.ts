import { ambiguous, harmlessId, isNearlyPolicyHeader, isPolicyHeader, type GatewayHeaders } from './request-headers.ts';

/** The head of a request for a decision (RFC 9112 2.1). */
export interface RequestHead extends GatewayHeaders {
  readonly target: string;
  /** Whether the client wants no further answer on this connection. */
  readonly isLast: boolean;
  /** Whether nginx can keep the answer to this question: snippets/decision-cache.conf. */
  readonly hasCache: boolean;
  /** The client's, unexamined (W3C Trace Context); undefined when there is none, empty when there are several. */
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
}

/** Neither visible, nor obs-text, nor white space, nor part of a line end; or half a line end: RFC 9110 5.5, RFC 9112 2.2. */
// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const unsound = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n/;
const requestLine = /^GET (\/[\x21-\x7e]*) HTTP\/1\.1$/;
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/**
 * Parses the head of a request, without the empty line at its end, as nginx writes it: GET, HTTP/1.1, one Host and no
 * body. Bytes stand for themselves (Latin-1).
 *
 * @returns undefined for anything else. It is stricter than Node's parser, and a test holds that it never reads a head
 * otherwise than that one does.
 */
export function parseRequestHead(head: string): RequestHead | undefined {
  if (unsound.test(head)) return undefined;
  let end = endOfLine(head, 0);
  const [, target] = requestLine.exec(head.slice(0, end)) ?? [];
  if (target === undefined) return undefined;
  let policyLines = '';
  let authorization: string | undefined;
  let clientAddress: string | undefined;
  let requestId = '';
  let hosts = 0;
  let isLast = false;
  let hasCache = false;
  let traceparent: string | undefined;
  let tracestate: string | undefined;
  while (end < head.length) {
    const start = end + 2;
    end = endOfLine(head, start);
    const colon = head.indexOf(':', start);
    if (colon < 0 || colon >= end) return undefined;
    const name = head.slice(start, colon);
    // a line that continues the one before (RFC 9112 5.2) has no name that is a token either
    if (!token.test(name)) return undefined;
    const lowered = name.toLowerCase();
    if (isPolicyHeader(lowered)) {
      const line = head.slice(start, end);
      policyLines = policyLines === '' ? line : `${policyLines}\n${line}`;
      continue;
    }
    switch (lowered) {
      case 'authorization':
        authorization = authorization === undefined ? valueOf(head, colon, end) : ambiguous;
        break;
      case 'x-client-address':
        clientAddress = clientAddress === undefined ? valueOf(head, colon, end) : '';
        break;
      case 'x-request-id':
        requestId = harmlessId(valueOf(head, colon, end));
        break;
      case 'host':
        hosts++;
        break;
      case 'connection':
        isLast ||= /(?:^|[ \t,])close(?:[ \t,]|$)/i.test(valueOf(head, colon, end));
        break;
      case 'x-decision-cache':
        hasCache = valueOf(head, colon, end) === 'on';
        break;
      case 'traceparent':
        traceparent = traceparent === undefined ? valueOf(head, colon, end) : '';
        break;
      case 'tracestate':
        tracestate = tracestate === undefined ? valueOf(head, colon, end) : '';
        break;
      // a body, even an empty one, or another protocol
      case 'content-length':
      case 'transfer-encoding':
      case 'upgrade':
      case 'expect':
        return undefined;
      default:
        if (isNearlyPolicyHeader(lowered)) policyLines += `${policyLines && '\n'}${head.slice(start, end)}`;
    }
  }
  if (hosts !== 1) return undefined;
  return {
    target,
    policyLines,
    authorization,
    clientAddress: clientAddress ?? '',
    requestId,
    isLast,
    hasCache,
    traceparent,
    tracestate,
  };
}

function endOfLine(head: string, from: number): number {
  const end = head.indexOf('\r\n', from);
  return end < 0 ? head.length : end;
}

/** Without the optional white space around it: RFC 9112 5.1. */
function valueOf(head: string, colon: number, end: number): string {
  let first = colon + 1;
  let last = end;
  while (first < last && isBlank(head.charCodeAt(first))) first++;
  while (last > first && isBlank(head.charCodeAt(last - 1))) last--;
  return head.slice(first, last);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}
