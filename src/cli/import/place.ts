import { isAlias, isCollection, isMap, isScalar, Lexer, LineCounter, parseDocument, visit, type Document } from 'yaml';
import { isUnsound } from '../../auth/strict-json.ts';
import { ImportError } from './import-error.ts';

type Path = readonly (string | number)[];

/** The parser needs some 200 bytes of memory for each token of YAML, and a second for 1.3 MB. */
const maxYamlBytes = 8 * 1024 * 1024;
const maxYamlTokens = 4_000_000;
const maxDepth = 32;
/** Uses of anchors inside anchors; the parser counts them. */
const maxAliases = 10_000;
const prototypeNames = new Set(['__proto__', 'constructor', 'prototype']);

/** A value of the source, and where it stands there. */
export class Place {
  readonly value: unknown;
  readonly file: string;
  readonly #path: Path;
  readonly #locate: (path: Path) => string;

  constructor(value: unknown, file: string, path: Path, locate: (path: Path) => string) {
    this.value = value;
    this.file = file;
    this.#path = path;
    this.#locate = locate;
  }

  /** Line and path, as far as they are known. */
  get where(): string {
    return this.#locate(this.#path);
  }

  fail(what: string): never {
    throw new ImportError(this.file, this.where, what);
  }

  get isObject(): boolean {
    return typeof this.value === 'object' && this.value !== null && !Array.isArray(this.value);
  }

  /** Names of the members that are not null. */
  names(): string[] {
    return Object.entries(this.#members())
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name]) => name);
  }

  /** A member of this object; undefined when it is absent or null. */
  member(name: string): Place | undefined {
    const members = this.#members();
    const value = Object.hasOwn(members, name) ? members[name] : undefined;
    return value === null || value === undefined ? undefined : this.#at(value, name);
  }

  /** The items of the list that this member is; none when it is absent. */
  items(name: string): Place[] {
    return this.member(name)?.list() ?? [];
  }

  list(): Place[] {
    if (!Array.isArray(this.value)) this.fail('must be a list');
    return this.value.map((item, index) => this.#at(item, index));
  }

  text(): string {
    if (typeof this.value !== 'string') this.fail('must be a text; write numbers and true or false in quotes');
    return this.value;
  }

  #members(): Record<string, unknown> {
    if (!this.isObject) this.fail('must be an object with named members');
    return this.value as Record<string, unknown>;
  }

  #at(value: unknown, part: string | number): Place {
    return new Place(value, this.file, [...this.#path, part], this.#locate);
  }
}

/**
 * Parses JSON (RFC 8259) or YAML 1.2 with the merge key of 1.1. Nothing may be there twice, names of JavaScript's
 * prototypes are refused, nesting is at most 32 deep, and aliases cannot multiply.
 *
 * @throws {ImportError}
 */
export function parseStructured(text: string, file: string): Place {
  return /^\s*[[{]/.test(text) ? parseJson(text, file) : parseYaml(text, file);
}

/** @throws {ImportError} */
export function parseJson(text: string, file: string, line?: number): Place {
  const fail = (what: string, at?: number) => {
    throw new ImportError(file, at === undefined ? '' : `line ${at}`, what);
  };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // the parser's own words quote the text, secrets and all
    const at = /at position (\d+)/.exec((error as Error).message)?.[1];
    const before = text.slice(0, at === undefined ? text.length : Number(at));
    fail('is not JSON', (line ?? 1) + before.split('\n').length - 1);
  }
  if (isUnsoundOrHuge(text)) fail(`has a member twice in one object, or is nested more than ${maxDepth} deep`, line);
  const root = new Place(value, file, [], (path) =>
    [line === undefined ? '' : `line ${line}`, writePath(path)].filter(Boolean).join(', '),
  );
  refusePrototypeNames(root);
  return root;
}

/** A string of many megabytes is more than the regular expression's stack can hold. */
function isUnsoundOrHuge(text: string): boolean {
  try {
    return isUnsound(text);
  } catch {
    return true;
  }
}

function parseYaml(text: string, file: string): Place {
  if (Buffer.byteLength(text) > maxYamlBytes) {
    throw new ImportError(file, '', 'has more than 8 MB of YAML; convert it to JSON, of which 64 MB are read');
  }
  const lines = new LineCounter();
  const lineOf = (offset: number) => `line ${lines.linePos(offset).line}`;
  let value: unknown;
  let document: Document | undefined;
  try {
    checkTokens(text, file);
    document = parseDocument(text, {
      lineCounter: lines,
      merge: true,
      prettyErrors: false,
      logLevel: 'error',
      // compares each key with each; checkNodes does it
      uniqueKeys: false,
    });
    const [fault] = [...document.errors, ...document.warnings];
    if (fault) throw new ImportError(file, lineOf(fault.pos[0]), explain(fault.code));
    checkNodes(document, (offset, what) => {
      throw new ImportError(file, lineOf(offset), what);
    });
    value = document.toJS({ maxAliasCount: maxAliases });
  } catch (error) {
    if (error instanceof ImportError) throw error;
    if (error instanceof ReferenceError) {
      throw new ImportError(file, '', `uses anchors and aliases that multiply beyond ${maxAliases} values`);
    }
    // the parser's stack is the bound on nesting
    if (error instanceof RangeError) throw new ImportError(file, '', `is nested more than ${maxDepth} deep`);
    throw new ImportError(file, '', 'is not YAML that can be read');
  }
  const { contents } = document;
  return new Place(value, file, [], (path) => {
    let node: unknown = contents;
    let offset = 0;
    for (const part of [undefined, ...path]) {
      if (part !== undefined) node = isCollection(node) ? node.get(part, true) : undefined;
      if (isCollection(node) || isScalar(node) || isAlias(node)) offset = node.range?.[0] ?? offset;
    }
    return [lineOf(offset), writePath(path)].filter(Boolean).join(', ');
  });
}

/** Before the parser, whose memory grows with each token, and faster with each level. */
function checkTokens(text: string, file: string): void {
  let tokens = 0;
  let depth = 0;
  let indicatorsInLine = 0;
  for (const token of new Lexer().lex(text)) {
    if (++tokens > maxYamlTokens) {
      throw new ImportError(file, '', 'has more values than are read from YAML; convert it to JSON');
    }
    if (token === '[' || token === '{') depth++;
    else if (token === ']' || token === '}') depth--;
    else if (token === '\n') indicatorsInLine = 0;
    else if (depth === 0 && (token === '-' || token === '?')) indicatorsInLine++;
    if (depth > maxDepth || indicatorsInLine > maxDepth) {
      throw new ImportError(file, '', `is nested more than ${maxDepth} deep`);
    }
  }
}

/** Codes of `YAMLParseError`; its messages quote the text, secrets and all. */
function explain(code: string): string {
  if (code === 'MULTIPLE_DOCS') return 'has a second YAML document; one is read';
  if (code === 'TAG_RESOLVE_FAILED') return 'has a YAML tag that is not known, such as !secret';
  if (code === 'TAB_AS_INDENT') return 'is indented by a tab, which YAML does not allow';
  return `is not YAML that can be read (${code})`;
}

function checkNodes(document: Document, fail: (offset: number, what: string) => never): void {
  visit(document, (_key, node, path) => {
    if (path.length > maxDepth && path.filter(isCollection).length >= maxDepth)
      fail(0, `is nested more than ${maxDepth} deep`);
    if (isAlias(node) && path.some((parent) => isCollection(parent) && parent.anchor === node.source))
      fail(node.range?.[0] ?? 0, 'has an alias of what it stands in');
    if (!isMap(node)) return;
    const names = new Set<string>();
    for (const { key } of node.items) {
      if (!isScalar(key)) fail(node.range?.[0] ?? 0, 'has a key that is no text');
      const name = String(key.value);
      const offset = key.range?.[0] ?? 0;
      if (names.has(name)) fail(offset, 'has a key twice in one mapping');
      if (prototypeNames.has(name)) fail(offset, refusalOfName(name));
      names.add(name);
    }
  });
}

function refusePrototypeNames(place: Place): void {
  if (typeof place.value !== 'object' || place.value === null) return;
  if (Array.isArray(place.value)) {
    for (const item of place.list()) refusePrototypeNames(item);
    return;
  }
  for (const name of place.names()) {
    if (prototypeNames.has(name)) place.fail(refusalOfName(name));
    const member = place.member(name);
    if (member) refusePrototypeNames(member);
  }
}

const refusalOfName = (name: string) => `has a member named ${name}, which is refused`;

/** Such as consumers[3].plugins. Names are cut: who mistakes a key for a name shall not find it in a log. */
function writePath(path: Path): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${showName(part)}`))
    .join('')
    .replace(/^\./, '');
}

/** A name of the source as it may be shown. */
export function showName(name: string): string {
  const shown = /^[\w.:@/-]+$/.test(name) ? name : JSON.stringify(name);
  return shown.length > 40 ? `${shown.slice(0, 12)}...` : shown;
}
