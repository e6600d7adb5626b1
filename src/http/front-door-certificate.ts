import { connect } from 'node:tls';

export interface FrontDoorCertificateOptions {
  readonly host: string;
  readonly port: number;
  readonly now: () => number;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  /** Called with the reason when it cannot be read; once until it can. */
  readonly onFault: (error: unknown) => void;
}

/** Days until the end of the certificate that is served; negative after it, undefined when it cannot be read. */
export type CertificateDaysLeft = () => Promise<number | undefined>;

const day = 86_400_000;
/** Milliseconds that what was read counts, a failure too. */
const lifetime = 60_000;
/** Milliseconds. */
const patience = 2_000;

/** The file says what nginx might serve after its next reload; a connection says what clients are given now. */
export function createFrontDoorCertificate(options: FrontDoorCertificateOptions): CertificateDaysLeft {
  const { host, port, now, monotonicNow, onFault } = options;
  let askedAt = -Infinity;
  let end: Promise<number | undefined> = Promise.resolve(undefined);
  let isFaulty = false;

  async function ask(): Promise<number | undefined> {
    try {
      const read = await readEnd(host, port);
      isFaulty = false;
      return read;
    } catch (error) {
      if (!isFaulty) onFault(error);
      isFaulty = true;
      return undefined;
    }
  }

  return async () => {
    if (monotonicNow() - askedAt >= lifetime) {
      askedAt = monotonicNow();
      end = ask();
    }
    const known = await end;
    return known === undefined ? undefined : (known - now()) / day;
  };
}

/** The `notAfter` of the certificate, in milliseconds since the epoch. */
function readEnd(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    // nothing is sent and nothing believed: a certificate that no client would accept has dates too
    const socket = connect({ host, port, rejectUnauthorized: false });
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no TLS handshake within ${patience / 1_000} s`));
    }, patience);
    socket.once('secureConnect', () => {
      const end = Date.parse(socket.getPeerX509Certificate()?.validTo ?? '');
      socket.destroy();
      if (Number.isNaN(end)) reject(new Error('the certificate has no end'));
      else resolve(end);
    });
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error('the connection was closed'));
    });
  });
}
