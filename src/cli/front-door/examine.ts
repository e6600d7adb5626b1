import { setMaxListeners } from 'node:events';
import type { ConnectionOptions } from 'node:tls';
import { CliError, exitCodes } from '../exit-codes.ts';
import { openAttempts, type Paths } from './attempts.ts';
import { examineHttp2 } from './http2.ts';
import { inTurns } from './in-turns.ts';
import { examinePlainHttp } from './plain-http.ts';
import { examineOpenPaths } from './public-paths.ts';
import { requestBytes, send, targetOf, type Target } from './raw.ts';
import { examineCertificate, examineTls, shakeHands, tlsChecks, type Handshake } from './tls.ts';
import { judge, remedies, type Finding } from './verdict.ts';
import { askPlainly, createWatch, usualLimits, whyDeaf, type Limits } from './watch.ts';
import { examineWithKey, keyChecks, withoutKey, type Credential } from './with-key.ts';

export interface FrontDoor {
  readonly url: URL;
  /** Its plain HTTP side, when somebody has named it. */
  readonly http: URL | undefined;
  readonly paths: Paths;
  /** Where the application answers with what it received. */
  readonly echoes: readonly string[];
  /** Checks to be made; all when it is empty. */
  readonly only: readonly string[];
  readonly credential: Omit<Credential, 'trust'> | undefined;
  /** PEM of each authority to trust, in place of those that Node knows. */
  readonly ca: readonly string[] | undefined;
  /** Whether a key is sent whatever the certificate. */
  readonly isInsecure: boolean;
  readonly limits?: Limits;
  /** Told how many steps there are, and of each that is done. */
  readonly onCounted?: (steps: number) => void;
  readonly onDone?: () => void;
}

/**
 * Tries a front door from outside, and changes nothing there.
 *
 * @throws {CliError} when nobody answers, or nobody who speaks HTTP
 */
export async function examineFrontDoor(door: FrontDoor): Promise<Finding[]> {
  const { url, http, paths, ca, limits = usualLimits, onCounted, onDone } = door;
  const plain = targetOf(url, limits.patience);
  const trust: ConnectionOptions = { ...(ca !== undefined && { ca: [...ca] }) };
  const handshake = await greet(url, plain, trust);
  const target: Target = { ...plain, watch: createWatch(plain, limits) };
  setMaxListeners(0);
  const wants = (...checks: string[]) => door.only.length === 0 || checks.some((check) => door.only.includes(check));
  const attempts = openAttempts(target, paths).filter(({ check }) => wants(check));
  const further = [
    [['public paths'], () => examineOpenPaths(target, paths)],
    [['HTTP/2'], () => (handshake.speaksHttp2 ? examineHttp2(target, paths) : [noHttp2])],
    [keyChecks, () => examineCredential(target, door, handshake, trust)],
    [['plain HTTP'], () => examinePlainHttp(url, target, http, paths)],
    [tlsChecks, () => examineTls(target)],
    [['certificate'], () => examineCertificate(url, handshake, ca)],
    [['HSTS'], () => examineHsts(target, door, handshake)],
  ] satisfies [checks: readonly string[], examine: () => Promise<Finding[]> | Finding[]][];
  const wanted = further.filter(([checks]) => wants(...checks));
  onCounted?.(attempts.length + wanted.length);
  const found = await inTurns(attempts, async (attempt): Promise<Finding> => {
    const { check, what, bytes, expect, options } = attempt;
    const exchange = await send(target, bytes, options);
    onDone?.();
    return { check, what, ...judge(exchange, expect, options?.isHead) };
  });
  for (const [, examine] of wanted) {
    found.push(...(await examine()));
    onDone?.();
  }
  const shown = found.filter(({ check }) => wants(check));
  if (shown.length > 0) return shown;
  throw new CliError(`--only ${JSON.stringify(door.only.join(', '))} is no check of the table.`, exitCodes.usage);
}

/** A host may take a connection and then say nothing; hundreds of attempts would not learn more of it. */
async function greet({ origin }: URL, target: Target, trust: ConnectionOptions): Promise<Handshake> {
  const handshake = await shakeHands(target, trust);
  if (handshake instanceof Error)
    throw new CliError(`${origin} does not answer: ${handshake.message}`, exitCodes.unavailable, handshake);
  const failure = whyDeaf(await askPlainly(target));
  if (failure !== undefined)
    throw new CliError(
      `${origin} takes the connection, with TLS, but answers no request: ${failure}. Nothing else was tried.`,
      exitCodes.unavailable,
    );
  return handshake;
}

const noHttp2: Finding = { check: 'HTTP/2', what: '', result: 'ok', seen: 'is not spoken here' };

async function examineCredential(
  target: Target,
  { credential, echoes, isInsecure }: FrontDoor,
  { fault }: Handshake,
  trust: ConnectionOptions,
): Promise<Finding[]> {
  if (credential === undefined) return withoutKey('this needs a key: --key-file <file>, or APIGW_KEY');
  if (fault !== '' && !isInsecure)
    return withoutKey(`no key is sent to a server that is not trusted (${fault}): --ca-file <file>, or --insecure`);
  return examineWithKey(target, { ...credential, trust: { ...trust, rejectUnauthorized: !isInsecure } }, echoes);
}

/** /livez is public, and has the headers of its server. */
async function examineHsts(target: Target, { paths }: FrontDoor, { fault }: Handshake): Promise<Finding[]> {
  const check = 'HSTS';
  const [path = '/livez'] = paths.open;
  const { answers, failure } = await send(target, requestBytes(target, { path }));
  const [answer] = answers;
  if (answer === undefined) return [{ check, what: '', result: 'not checked', seen: failure ?? 'no answer' }];
  const policy = answer.headers['strict-transport-security'];
  const age = Number(/max-age="?(\d+)/i.exec(policy ?? '')?.[1] ?? 0);
  if (age > 0) return [{ check, what: '', result: 'ok', seen: policy ?? '' }];
  if (fault !== '')
    return [
      { check, what: '', result: 'ok', seen: 'none, as it should be while browsers do not trust the certificate' },
    ];
  const remedy = 'default.conf has the line, commented';
  return [{ check, what: '', result: 'warning', seen: 'none', remedy }];
}

export function isUnreachable({ result, remedy }: Finding): boolean {
  return result === 'not checked' && remedy === remedies.down;
}
