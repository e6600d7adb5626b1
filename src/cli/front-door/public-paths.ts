import { isOpen, nowhere, type Paths } from './attempts.ts';
import { inTurns } from './in-turns.ts';
import { requestBytes, send, type Answer, type Exchange, type Target } from './raw.ts';
import { identityHeaders } from './spellings.ts';
import { judge, type Finding, type Verdict } from './verdict.ts';

const check = 'public paths';

/** What the operator says is public has to be that path to the application, whatever a client makes of the request. */
export async function examineOpenPaths(target: Target, paths: Paths): Promise<Finding[]> {
  return [
    ...(await inTurns(paths.open, (path) => examineOpenPath(target, path))),
    ...(await inTurns(detours(paths), (detour) => examineDetour(target, detour))),
    ...(await inTurns(paths.open, (path) => examineParameters(target, path, elsewhere(paths)))).flat(),
  ];
}

/** What is public is told of no client, whatever a client says. */
async function examineOpenPath(target: Target, path: string): Promise<Finding> {
  const marker = 'apigw-doctor-was-here';
  const lines = [...identityHeaders, 'X_Client_Id'].map((name) => `${name}: ${marker}`);
  const { answers, failure } = await send(target, requestBytes(target, { path, lines }));
  const named = { check, what: path };
  const [answer] = answers;
  if (answer === undefined) return { ...named, result: 'not checked', seen: failure ?? 'no answer' };
  if (!answer.body.includes(marker)) return { ...named, result: 'ok', seen: `${answer.status}, as you say` };
  const remedy = 'The application takes for the gateway what a client has written: include snippets/proxy.conf';
  return { ...named, result: 'wrong', seen: 'the identity headers of a client arrive', remedy };
}

interface Detour {
  readonly path: string;
  /** The public path that this is to nginx. */
  readonly open: string;
}

/** Public paths by way of protected ones. */
function detours({ open, protected: protectedPaths }: Paths): Detour[] {
  const exact = open.filter((path) => !path.endsWith('/'));
  return exact.flatMap((path) =>
    ['/admin', ...protectedPaths].flatMap((prefix) =>
      ['/..', '/%2e%2e', '%2f..'].map((up) => ({ path: `${prefix.replace(/\/$/, '')}${up}${path}`, open: path })),
    ),
  );
}

/** What is public by an exact location has to be that path to the application, however it is spelt. */
async function examineDetour(target: Target, { path, open }: Detour): Promise<Finding> {
  const named = { check, what: path };
  const plain = await send(target, requestBytes(target, { path: open }));
  const spelt = await send(target, requestBytes(target, { path }));
  const [answer] = spelt.answers;
  const refused = judge(spelt, 'malformed');
  if (answer === undefined || refused.result === 'ok') return { ...named, ...refused };
  const [usual] = plain.answers;
  if (usual === undefined) return { ...named, ...judge(plain) };
  if (answer.status === usual.status && !answer.body.includes(path))
    return { ...named, result: 'ok', seen: `${answer.status}, as at ${open}` };
  const remedy = `The application gets this spelling and may take another path from it: proxy_pass http://application${open};`;
  return { ...named, result: 'wrong', seen: `${answer.status}, otherwise than at ${open}`, remedy };
}

/** Names that parameters with a path in them like to have. */
const parameters = [
  'path',
  'url',
  'uri',
  'file',
  'page',
  'p',
  'next',
  'redirect',
  'target',
  'to',
  'route',
  'dest',
  'src',
  'u',
  'r',
];

/** Protected paths as a parameter may have them. */
function elsewhere(paths: Paths): string[] {
  return [nowhere, ...paths.protected]
    .filter((path) => path !== '/' && !isOpen(path, paths))
    .flatMap((path) => [path.slice(1), path]);
}

/** Whether a parameter decides what path the application gets, as with a rewrite to $arg_path. */
async function examineParameters(target: Target, open: string, values: readonly string[]): Promise<Finding[]> {
  const ask = (query = '') => send(target, requestBytes(target, { path: `${open}${query}` }));
  const plain = [await ask(), await ask()];
  const examine = async (names: readonly string[], value: string): Promise<Finding> => {
    const exchange = await ask(`?${names.map((name) => `${name}=${value}`).join('&')}`);
    const more = names.length > 1 ? ` and ${names.length - 1} more names` : '';
    return {
      check,
      what: `${open}?${names[0] ?? ''}=${value}${more}`,
      ...judgeParameter(exchange, open, value, plain),
    };
  };
  const found: Finding[] = [];
  for (const value of values) {
    const all = await examine(parameters, value);
    const isDoubtful = all.result === 'wrong' || all.result === 'warning';
    const single = isDoubtful ? await inTurns(parameters, (name) => examine([name], value)) : [];
    const guilty = single.filter(({ result }) => result === all.result);
    found.push(...(guilty.length > 0 ? guilty : [all]));
  }
  return found;
}

/** @param plain two exchanges without the parameter: an application may answer otherwise each time */
function judgeParameter(exchange: Exchange, open: string, value: string, plain: readonly Exchange[]): Verdict {
  const [answer] = exchange.answers;
  const refused = judge(exchange, 'malformed');
  if (answer === undefined || refused.result === 'ok') return refused;
  const [usual, again] = plain.map(({ answers }) => answers[0]);
  if (usual === undefined || again === undefined) return judge({ ...exchange, answers: [] });
  const remedy = `A client decides what path the application gets, unless that parameter is the application's own: proxy_pass http://application${open}; and no rewrite`;
  // an answer that tells the path of the request tells another one; a parameter alone is told without a slash
  const isTold = value.startsWith('/') ? false : answer.body.includes(`/${value}`) && !usual.body.includes(`/${value}`);
  const isLost = usual.body.includes(open) && !answer.body.includes(open);
  if (isTold || isLost) return { result: 'wrong', seen: `${answer.status} of another path`, remedy };
  if (answer.status !== usual.status) {
    const isOwn = [400, 422].includes(answer.status);
    return { result: isOwn ? 'warning' : 'wrong', seen: `${answer.status}, otherwise than at ${open}`, remedy };
  }
  return hasOtherBody(answer, usual, again) && !answer.body.includes(value)
    ? { result: 'warning', seen: `${answer.status}, with another body than at ${open}`, remedy }
    : { result: 'ok', seen: `${answer.status}, as at ${open}` };
}

function hasOtherBody({ body }: Answer, usual: Answer, again: Answer): boolean {
  return usual.body === again.body && body !== usual.body;
}
