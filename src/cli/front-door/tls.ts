import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import {
  checkServerIdentity,
  connect,
  rootCertificates,
  type ConnectionOptions,
  type DetailedPeerCertificate,
  type PeerCertificate,
  type SecureVersion,
} from 'node:tls';
import { serverNameOf, type Target } from './raw.ts';
import type { Finding, Verdict } from './verdict.ts';

/** Days before the end of a certificate at which somebody should have renewed it. */
const warnBefore = 30;
const day = 24 * 3_600_000;

/** Certificates of a chain that are looked at; OpenSSL takes 100. */
const maxChain = 10;

export const tlsChecks = ['TLS 1.0 and 1.1', 'TLS 1.2', 'TLS 1.3', 'weak ciphers'];

export interface Handshake {
  /** With those above it that were sent. */
  readonly certificate: DetailedPeerCertificate;
  /** Why a client would not trust it; empty when it would. */
  readonly fault: string;
  readonly speaksHttp2: boolean;
  readonly cipher: string;
}

/** @param options such as the authorities to trust */
export function shakeHands(
  target: Target,
  options: ConnectionOptions = {},
): Promise<Handshake | NodeJS.ErrnoException> {
  const { host, port, patience, watch } = target;
  const ending = watch?.ending();
  if (ending !== undefined) return Promise.resolve(new Error(ending));
  return new Promise((resolve) => {
    let isDone = false;
    const settle = (found: Handshake | NodeJS.ErrnoException) => {
      if (isDone) return;
      isDone = true;
      clearTimeout(timer);
      resolve(found);
      socket.destroy();
    };
    const socket = connect(
      {
        host,
        port,
        servername: serverNameOf(target),
        rejectUnauthorized: false,
        ALPNProtocols: ['h2', 'http/1.1'],
        ...options,
      },
      () => {
        const { authorizationError } = socket as { authorizationError?: Error | string };
        settle({
          certificate: socket.getPeerCertificate(true),
          fault: String(authorizationError ?? ''),
          speaksHttp2: socket.alpnProtocol === 'h2',
          cipher: socket.getCipher().standardName,
        });
      },
    );
    const timer = setTimeout(() => {
      settle(new Error(`no answer within ${patience / 1_000} s`));
    }, patience);
    socket.on('error', settle);
    socket.on('close', () => {
      settle(Object.assign(new Error('closed'), { code: 'ECONNRESET' }));
    });
  });
}

export async function examineTls(target: Target): Promise<Finding[]> {
  const [old, current, weak, plainRsa] = await Promise.all([
    Promise.all((['TLSv1', 'TLSv1.1'] satisfies SecureVersion[]).map((version) => examineOldVersion(target, version))),
    Promise.all((['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]).map((version) => examineVersion(target, version))),
    examineCiphers(target, 'weak ciphers', weakCiphers, 'wrong'),
    examineCiphers(target, 'no forward secrecy', 'kRSA:@SECLEVEL=0', 'warning'),
  ]);
  return [...old, ...current, weak, plainRsa];
}

/** No authentication, no encryption, or one that is broken; of these, what OpenSSL here still knows. */
const weakCiphers = 'aNULL:eNULL:EXPORT:LOW:RC4:3DES:DES:MD5:RC2:IDEA:SEED:@SECLEVEL=0';

async function examineOldVersion(target: Target, version: SecureVersion): Promise<Finding> {
  const named = { check: 'TLS 1.0 and 1.1', what: nameOf(version) };
  const found = await shakeHands(target, {
    minVersion: version,
    maxVersion: version,
    ciphers: 'DEFAULT:@SECLEVEL=0',
  });
  if (!(found instanceof Error))
    return { ...named, result: 'wrong', seen: 'accepted', remedy: 'ssl_protocols TLSv1.2 TLSv1.3; in ssl.conf' };
  return { ...named, ...(isRefusal(found) ? ({ result: 'ok', seen: 'refused' } as const) : unknownFor(found)) };
}

async function examineVersion(target: Target, version: SecureVersion): Promise<Finding> {
  const named = { check: nameOf(version), what: '' };
  const found = await shakeHands(target, { minVersion: version, maxVersion: version });
  if (!(found instanceof Error)) return { ...named, result: 'ok', seen: `accepted, ${found.cipher}` };
  if (!isRefusal(found)) return { ...named, ...unknownFor(found) };
  const isCurrent = version === 'TLSv1.3';
  return isCurrent
    ? { ...named, result: 'warning', seen: 'refused', remedy: 'ssl_protocols TLSv1.2 TLSv1.3; in ssl.conf' }
    : { ...named, result: 'ok', seen: 'refused' };
}

async function examineCiphers(
  target: Target,
  what: string,
  ciphers: string,
  result: 'wrong' | 'warning',
): Promise<Finding> {
  const named = { check: 'weak ciphers', what };
  const found = await shakeHands(target, { maxVersion: 'TLSv1.2', minVersion: 'TLSv1', ciphers }).catch(
    (error: unknown) => error as NodeJS.ErrnoException,
  );
  if (!(found instanceof Error))
    return { ...named, result, seen: `accepted: ${found.cipher}`, remedy: 'ssl_ciphers in ssl.conf' };
  return { ...named, ...(isRefusal(found) ? ({ result: 'ok', seen: 'refused' } as const) : unknownFor(found)) };
}

function nameOf(version: SecureVersion): string {
  return `${version.replace('v', ' ')}${version === 'TLSv1' ? '.0' : ''}`;
}

/** Whether the other side has said no, rather than nothing, or this one. */
function isRefusal({ code = '', message }: NodeJS.ErrnoException): boolean {
  return /alert|ECONNRESET|EPIPE/i.test(`${code} ${message}`);
}

function unknownFor({ message }: Error): Verdict {
  return { result: 'not checked', seen: message.replace(/\n/g, '') };
}

/** @param authorities PEM of each that a client trusts */
export function examineCertificate(
  { hostname }: URL,
  handshake: Handshake,
  authorities: readonly string[] = rootCertificates,
): Finding[] {
  const { certificate } = handshake;
  const untrusted = whyUntrusted(handshake, authorities);
  const check = 'certificate';
  const host = hostname.replace(/^\[|\]$/g, '');
  const days = Math.floor((Date.parse(certificate.valid_to) - Date.now()) / day);
  const names = certificate.subjectaltname ?? 'no name';
  const end = { check, what: 'its end' };
  const seen = `for ${names}, ${days} days left`;
  const isNotYet = Date.parse(certificate.valid_from) > Date.now();
  return [
    days < 0 || isNotYet
      ? {
          ...end,
          result: 'wrong',
          seen: isNotYet ? `${seen}, and not valid yet` : seen,
          remedy: 'Put a new one in place and reload',
        }
      : days < warnBefore
        ? { ...end, result: 'warning', seen, remedy: 'Renew it' }
        : { ...end, result: 'ok', seen },
    examineName(check, host, certificate),
    untrusted === undefined
      ? { check, what: 'trust', result: 'ok', seen: isByDates(handshake) ? 'trusted but for its dates' : 'trusted' }
      : {
          check,
          what: 'trust',
          result: 'warning',
          seen: `clients do not trust it: ${untrusted}`,
          remedy: 'docs/tls.md; with a private authority say --ca-file',
        },
  ];
}

function examineName(check: string, host: string, certificate: PeerCertificate): Finding {
  const what = 'name';
  const mismatch =
    isIP(host) === 0
      ? checkServerIdentity(host, certificate)
      : new X509Certificate(certificate.raw).checkIP(host) === undefined
        ? new Error(`not for ${host}`)
        : undefined;
  if (mismatch === undefined) return { check, what, result: 'ok', seen: `is for ${host}` };
  const remedy = 'Clients that ask for that name refuse it';
  return { check, what, result: 'warning', seen: `is not for ${host}`, remedy };
}

/** Why clients do not trust it; undefined when they do, or would but for its name and its dates, which say so by themselves. */
function whyUntrusted({ fault, certificate }: Handshake, authorities: readonly string[]): string | undefined {
  if (fault === '' || fault.startsWith('ERR_TLS_CERT_ALTNAME')) return undefined;
  if (!isByDates({ fault })) return fault;
  return isFromAuthority(chainOf(certificate), authorities)
    ? undefined
    : 'no authority that is known here has signed it';
}

/** OpenSSL looks at the dates last, so that they hide everything else. */
function isByDates({ fault }: Pick<Handshake, 'fault'>): boolean {
  return fault === 'CERT_HAS_EXPIRED' || fault === 'CERT_NOT_YET_VALID';
}

/** @param authorities PEM of each */
function isFromAuthority(chain: readonly X509Certificate[], authorities: readonly string[]): boolean {
  const known = authorities.map((pem) => new X509Certificate(pem)).filter((one) => one.checkIssued(one));
  const hasSigned = (issuer: X509Certificate, one: X509Certificate) =>
    issuer.ca && one.checkIssued(issuer) && one.verify(issuer.publicKey);
  return chain.some((one, index) => {
    const isLinked = chain.slice(0, index).every((below, at) => {
      const above = chain[at + 1];
      return above !== undefined && hasSigned(above, below);
    });
    return isLinked && known.some((authority) => authority.raw.equals(one.raw) || hasSigned(authority, one));
  });
}

/** From the server's own on, as it has sent them. */
function chainOf(certificate: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let next: DetailedPeerCertificate | undefined = certificate; next; next = issuerOf(next)) {
    const one = new X509Certificate(next.raw);
    if (chain.length === maxChain || chain.some(({ raw }) => raw.equals(one.raw))) break;
    chain.push(one);
  }
  return chain;
}

/** There may be none, whatever the types of Node say. */
function issuerOf({
  issuerCertificate,
}: Partial<Pick<DetailedPeerCertificate, 'issuerCertificate'>>): DetailedPeerCertificate | undefined {
  return issuerCertificate;
}
