import { hash } from 'node:crypto';
import { html, Html } from './html.ts';
import type {
  Examples,
  JsonSchema,
  OpenApiDocument,
  OperationObject,
  ParameterObject,
  Referenced,
  ResponseObject,
} from './openapi.ts';
import { style } from './reference-style.ts';

export interface ReferencePage {
  readonly text: string;
  /** Lets the browser load nothing and run nothing: the page has no more than its one style sheet. */
  readonly contentSecurityPolicy: string;
}

interface NamedOperation {
  readonly method: string;
  readonly path: string;
  readonly operation: OperationObject;
}

/** The document as a page for people, without scripts. */
export function createReferencePage(document: OpenApiDocument): ReferencePage {
  const { info, tags, paths, components } = document;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  );
  const groups = tags.map((tag) => ({
    ...tag,
    id: `tag-${tag.name.toLowerCase().replaceAll(' ', '-')}`,
    operations: operations.filter(({ operation }) => operation.tags.includes(tag.name)),
  }));
  const schemas = Object.entries(components.schemas);
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="referrer" content="no-referrer" />
        <title>${info.title}</title>
        ${new Html(`<style>${style}</style>`)}
      </head>
      <body>
        <nav aria-label="Contents">
          ${groups.map(
            (group) =>
              html`<h2><a href="#${group.id}">${group.name}</a></h2>
                <ul>
                  ${group.operations.map(
                    ({ method, operation }) =>
                      html`<li>
                        <a href="#${operation.operationId}"
                          ><span class="method ${method}">${method}</span> <span>${operation.summary}</span></a
                        >
                      </li>`,
                  )}
                </ul> `,
          )}
          <h2><a href="#shared-answers">Answers of many calls</a></h2>
          <h2><a href="#schemas">Schemas</a></h2>
          <ul class="schemas">
            ${schemas.map(([name]) => html`<li><a href="#schema-${name}">${name}</a></li> `)}
          </ul>
        </nav>
        <main>
          <h1>${info.title}</h1>
          ${markdown(info.description)}
          <p>The same as OpenAPI ${document.openapi}: <code>GET /v1/management/openapi.json</code>.</p>
          <h2 id="authentication">Authentication</h2>
          ${Object.values(components.securitySchemes).map((scheme) => markdown(scheme.description))}
          ${groups.map(
            (group) =>
              html`<h2 id="${group.id}">${group.name}</h2>
                ${markdown(group.description)} ${group.operations.map((one) => renderOperation(one, document))}`,
          )}
          <h2 id="shared-answers">Answers of many calls</h2>
          ${Object.entries(components.responses).map(
            ([name, response]) =>
              html`<h3 id="answer-${name}">${name}</h3>
                ${renderAnswer(statusOf(response), response, document)}`,
          )}
          <h2 id="schemas">Schemas</h2>
          ${schemas.map(
            ([name, schema]) =>
              html`<section class="schema" id="schema-${name}">
                <h3><a href="#schema-${name}">${name}</a></h3>
                ${markdown(schema.description)} ${renderMembers(schema)}
              </section> `,
          )}
        </main>
      </body>
    </html> `;
  return {
    text: page.text,
    contentSecurityPolicy: `default-src 'none'; style-src 'sha256-${hash('sha256', style, 'base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  };
}

function renderOperation({ method, path, operation }: NamedOperation, document: OpenApiDocument): Html {
  const { operationId, summary, description, requestBody, responses, security } = operation;
  const parameters = (operation.parameters ?? []).map((parameter) =>
    resolve(parameter, document.components.parameters),
  );
  const body = requestBody?.content['application/json'];
  return html`<section class="operation" id="${operationId}">
    <h3><a href="#${operationId}">${summary}</a></h3>
    <p class="address">
      <span class="method ${method}">${method}</span>
      <code>${path}</code> ${security && html`<span class="muted">public</span>`}
    </p>
    ${markdown(description)}
    ${
      parameters.length > 0 &&
      html`<h4>Parameters</h4>
        ${renderParameters(parameters)}`
    }
    ${
      body &&
      html`<h4>Body${!requestBody.required && ', optional'}</h4>
        <p>${typeOf(body.schema)}</p>`
    }
    <h4>Examples</h4>
    ${renderExamples({ method, path, operation }, parameters)}
    <h4>Answers</h4>
    ${Object.entries(responses).map(([status, response]) =>
      '$ref' in response
        ? renderSharedAnswer(status, nameOf(response.$ref), document)
        : renderAnswer(status, response, document),
    )}
  </section> `;
}

function renderParameters(parameters: readonly ParameterObject[]): Html {
  return html`<dl class="members">
    ${parameters.map(
      ({ name, in: place, required, description, schema }) =>
        html`<div>
          <dt>
            <code>${name}</code> <span>${place}</span>
            <span>${typeOf(schema)}</span> ${required && html`<span class="required">required</span>`}
          </dt>
          <dd>${markdown(description)}${renderConstraints(schema)}</dd>
        </div>`,
    )}
  </dl>`;
}

function renderMembers(schema: JsonSchema): Html {
  const { properties = {}, required = [], additionalProperties } = schema;
  // only requests are strict
  const isRequest = additionalProperties === false;
  return html`<dl class="members">
      ${Object.entries(properties).map(
        ([name, member]) =>
          html`<div>
            <dt>
              <code>${name}</code>
              <span>${typeOf(member)}</span>
              ${isRequest ? required.includes(name) && html`<span class="required">required</span>` : !required.includes(name) && 'not always'}
            </dt>
            <dd>${markdown(member.description)}${renderConstraints(member)}${inlineObject(member)}</dd>
          </div>`,
      )}
    </dl>
    ${isRequest && html`<p class="muted">No other member is taken.</p>`}`;
}

/** Of an object that is no component. */
function inlineObject(schema: JsonSchema): Html | false {
  const inner = alternatives(schema).find(({ properties }) => properties);
  return inner !== undefined && renderMembers(inner);
}

function alternatives(schema: JsonSchema): readonly JsonSchema[] {
  return schema.anyOf?.flatMap(alternatives) ?? [schema];
}

function typeOf(schema: JsonSchema): Html {
  const all = alternatives(schema);
  const types = all.map((one): Html => {
    if (one.$ref !== undefined) {
      const name = nameOf(one.$ref);
      return html`<a href="#schema-${name}">${name}</a>`;
    }
    if (one.items) return html`list of ${typeOf(one.items)}`;
    if (one.format !== undefined) return html`${words[one.format] ?? one.format}`;
    if (one.const !== undefined) return html`<code>${JSON.stringify(one.const)}</code>`;
    if (one.enum)
      return join(
        one.enum.map((value) => html`<code>${all.length > 1 ? JSON.stringify(value) : String(value)}</code>`),
        ', ',
      );
    return html`${String(one.type ?? 'object')}`;
  });
  const distinct = [...new Map(types.map((type) => [type.text, type])).values()];
  return join(distinct, ' or ');
}

const words: Readonly<Record<string, string>> = {
  'date-time': 'time',
  int64: 'integer',
  ipv4: 'IPv4 address',
  ipv6: 'IPv6 address',
};

function renderConstraints(schema: JsonSchema): Html | false {
  const list = [...new Map(constraintsOf(schema).map((one) => [one.text, one])).values()];
  return list.length > 0 && html`<p class="muted">${join(list, '; ')}</p>`;
}

function constraintsOf(schema: JsonSchema): Html[] {
  const { minimum, maximum, minLength, maxLength, minItems, maxItems, pattern, items } = schema;
  const range = (least: number | undefined, most: number | undefined, unit: string) => {
    if (most === undefined) return least === undefined ? [] : [html`at least ${number(least)}${unit}`];
    if (least === undefined) return [html`at most ${number(most)}${unit}`];
    return [least === most ? html`${number(most)}${unit}` : html`${number(least)} to ${number(most)}${unit}`];
  };
  return [
    ...range(minimum, maximum, ''),
    ...range(minLength, maxLength, ' characters'),
    ...range(minItems, maxItems, ' members'),
    ...(schema.uniqueItems ? [html`none twice`] : []),
    ...(pattern === undefined ? [] : [html`pattern <code>${pattern}</code>`]),
    ...(items ? constraintsOf(items).map((one) => html`each ${one}`) : []),
    ...(schema.anyOf ?? []).flatMap(constraintsOf),
    ...(schema.default === undefined ? [] : [html`default <code>${JSON.stringify(schema.default)}</code>`]),
  ];
}

function number(value: number): string {
  return value.toLocaleString('en');
}

function renderExamples({ method, path, operation }: NamedOperation, parameters: readonly ParameterObject[]): Html {
  const answers = Object.values(operation.responses).flatMap((response) =>
    'content' in response ? Object.values(response.content ?? {}) : [],
  );
  const bodies = operation.requestBody?.content['application/json']?.examples ?? {};
  const names = new Set([
    ...Object.keys(bodies),
    ...parameters.flatMap(({ examples = {} }) => Object.keys(examples)),
    ...answers.flatMap(({ examples = {} }) =>
      Object.entries(examples)
        .filter(([, example]) => !isProblem(example.value) || example['x-request'])
        .map(([name]) => name),
    ),
  ]);
  const find = (name: string) =>
    answers.map(({ examples }) => examples?.[name]).find((example) => example !== undefined);
  const all = names.size > 0 ? [...names] : [''];
  return html`${all.map((name) => {
    const answer = find(name);
    const { parameters: given, body = bodies[name]?.value } = answer?.['x-request'] ?? {};
    const values = parameters.map(
      (parameter) =>
        [parameter, given?.[parameter.name] ?? parameter.examples?.[name]?.value ?? parameter.example] as const,
    );
    const summary = bodies[name]?.summary ?? answer?.summary ?? summaryOf(name, parameters);
    return html`<div class="example">
      ${summary !== undefined && html`<p>${summary}</p>`}
      <pre><code>${curl(method, path, values, body, operation.security === undefined)}</code></pre>
      ${answer && html`<pre><code>${highlight(answer.value)}</code></pre>`}
    </div>`;
  })}`;
}

function summaryOf(name: string, parameters: readonly ParameterObject[]): string | undefined {
  return parameters.map(({ examples }) => examples?.[name]?.summary).find((summary) => summary !== undefined);
}

function isProblem(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'reason' in value && 'request_id' in value;
}

function curl(
  method: string,
  path: string,
  values: readonly (readonly [ParameterObject, unknown])[],
  body: unknown,
  needsCredential: boolean,
): string {
  const given = values.filter(([, value]) => value !== undefined);
  const of = (place: ParameterObject['in']): [string, string][] =>
    given.filter(([parameter]) => parameter.in === place).map(([{ name }, value]) => [name, String(value)]);
  const target = of('path').reduce((text, [name, value]) => text.replace(`{${name}}`, encodeURIComponent(value)), path);
  const query = new URLSearchParams(of('query')).toString();
  const lines = [
    `curl ${method === 'get' ? '' : `-X ${method.toUpperCase()} `}${quote(`https://gateway.example.com${target}${query && `?${query}`}`)}`,
    ...(needsCredential ? ['-H "Authorization: apk $KEY"'] : []),
    ...of('header').map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`),
    ...(body === undefined ? [] : [`-H 'Content-Type: application/json'`, `-d ${quote(writeJson(body))}`]),
  ];
  return lines.join(' \\\n  ');
}

/** For a POSIX shell. */
function quote(text: string): string {
  return /^[\w:/.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function renderAnswer(status: string, response: ResponseObject, document: OpenApiDocument): Html {
  const { description, headers, content = {} } = response;
  const [meaning = '', ...details] = description.split('\n\n');
  const known = Object.keys(headers).map((name) => [name, document.components.headers[name]] as const);
  return html`<details class="answer">
    <summary><span class="status ${Number(status) < 400 ? 'ok' : 'no'}">${status}</span> ${inline(meaning)}</summary>
    <div>
      ${markdown(details.join('\n\n'))}
      ${Object.entries(content).map(([mediaType, { schema }]) => html`<p><code>${mediaType}</code> ${typeOf(schema.allOf?.[0] ?? schema)}</p>`)}
      ${renderProblems(content['application/problem+json']?.examples)}
      <h4>Headers</h4>
      <ul>
        ${known.map(([name, header]) => html`<li><code>${name}</code> ${inline(header?.description ?? '')}</li>`)}
      </ul>
    </div>
  </details> `;
}

function renderSharedAnswer(status: string, name: string, { components }: OpenApiDocument): Html {
  const [meaning = ''] = components.responses[name]?.description.split('\n\n') ?? [];
  return html`<p class="answer shared">
    <span class="status no">${status}</span> ${inline(meaning)} <a href="#answer-${name}">As for many calls</a>
  </p>`;
}

/** Of a component, which stands for one kind of refusal. */
function statusOf({ content }: ResponseObject): string {
  const status = content?.['application/problem+json']?.schema.allOf?.[1]?.properties?.['status'];
  return String(status?.const);
}

function renderProblems(examples: Examples = {}): Html {
  return html`${Object.values(examples).map(({ value }) => html`<pre><code>${highlight(value)}</code></pre>`)}`;
}

function resolve<T extends object>(value: Referenced<T>, components: Readonly<Record<string, T>>): T {
  if (!('$ref' in value)) return value;
  const found = components[nameOf(value.$ref)];
  if (!found) throw new Error(`there is no ${value.$ref}`);
  return found;
}

function nameOf(reference: string): string {
  return reference.split('/').at(-1) ?? '';
}

function join(parts: readonly Html[], separator: string): Html {
  return html`${parts.map((part, index) => html`${index > 0 && separator}${part}`)}`;
}

/** Of Markdown what the document has: paragraphs, lists, and code in them. */
function markdown(text = ''): Html {
  const blocks = text.split('\n\n').filter((block) => block !== '');
  return html`${blocks.map((block) =>
    block.startsWith('- ')
      ? html`<ul>
          ${block.split('\n').map((line) => html`<li>${inline(line.slice(2))}</li>`)}
        </ul>`
      : html`<p>${inline(block)}</p>`,
  )}`;
}

function inline(text: string): Html {
  return html`${text.split('`').map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part))}`;
}

/** JSON with its members, strings and other values in colours of their own. */
function highlight(value: unknown): Html {
  const tokens = writeJson(value).split(/("(?:[^"\\]|\\.)*"(?:: )?|-?\b[\d.]+\b|\b(?:true|false|null)\b)/);
  return html`${tokens.map((token, index) => {
    if (index % 2 === 0) return token;
    if (token.endsWith(': ')) return html`<span class="k">${token}</span>`;
    return html`<span class="${token.startsWith('"') ? 's' : 'n'}">${token}</span>`;
  })}`;
}

/** A list of one stays on its line. */
function writeJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(/\[\n\s+("[^"\n]*"|\d+)\n\s+\]/g, '[$1]');
}
