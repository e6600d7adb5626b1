import {
  adaptLine,
  compact,
  createCollector,
  makeAKey,
  readForeignKey,
  readIdentifier,
  type Imported,
} from './collector.ts';
import { ImportError } from './import-error.ts';
import { Place } from './place.ts';

/** How a stored password begins, and what it is. */
const kinds: readonly (readonly [RegExp, string])[] = [
  [/^\$2[abxy]\$/, 'A password hashed with bcrypt'],
  [/^\$apr1\$/, 'A password hashed with apr1 (MD5)'],
  [/^\$[156]\$/, 'A password hashed with crypt()'],
  [/^\{S?SHA(?:256|512)?\}/i, 'A password hashed with SHA'],
];

/**
 * Users of a password file of nginx (`auth_basic_user_file`) or Apache (`htpasswd`): lines of `name:password` or
 * `name:password:comment`, empty lines, and comments that begin with `#`. Passwords are hashed, and no key can be made of
 * a hash; only `{PLAIN}` (RFC 2307) with 64 letters and digits is a key. A bare plain password looks like a hash of crypt
 * or hexadecimal digits, so it is never taken for a key. A line without `:` is refused: it may be the rest of a broken one.
 *
 * https://nginx.org/en/docs/http/ngx_http_auth_basic_module.html#auth_basic_user_file,
 * https://httpd.apache.org/docs/2.4/misc/password_encryptions.html
 *
 * @throws {ImportError}
 */
export function readHtpasswd(text: string, file: string): Imported {
  const collector = createCollector(file);
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const where = `line ${index + 1}`;
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue;
    const [, name, password = '', comment] = /^([^:]+):([^:]*)(?::(.*))?$/u.exec(line) ?? [];
    if (name === undefined) {
      throw new ImportError(file, where, 'must be name:password or name:password:comment');
    }
    if (/^(?:[0-9a-f]{32}){1,2}$/i.test(comment ?? '')) {
      throw new ImportError(file, where, 'is a line of htdigest (name:realm:digest), not of htpasswd');
    }
    const place = (value: string) => new Place(value, file, [], () => where);
    const plain = /^\{PLAIN\}(.*)$/i.exec(password)?.[1];
    const key = plain === undefined ? undefined : readForeignKey(collector, place(plain));
    if (plain === undefined) {
      const kind = kinds.find(([pattern]) => pattern.test(password))?.[1] ?? 'A password';
      collector.note(where, `${kind} cannot be carried over. ${makeAKey}`);
    }
    const description = comment === undefined ? undefined : adaptLine(collector, where, comment);
    collector.add(
      where,
      compact({
        api_client_id: readIdentifier(collector, place(name)),
        ...(description !== undefined && { description }),
        keys: key ? [key] : [],
      }),
    );
  }
  return collector.finish();
}
