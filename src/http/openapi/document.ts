import { z } from 'zod';
import { presentProblem, Problem } from '../../problem.ts';
import { problemAnswer } from '../answer-schemas.ts';
import { idempotencyKeyPattern } from '../schemas.ts';
import type { Answer, AnswerHeader, Example, Operation, RequestHeader, Tag } from './operation.ts';
import { operations } from './operations.ts';
import {
  problems,
  problemsOfAll,
  problemsOfCredentials,
  problemStatuses,
  type KnownProblem,
  type ProblemStatus,
} from './problems.ts';
import type {
  Examples,
  HeaderObject,
  MediaTypes,
  Reference,
  JsonSchema,
  OpenApiDocument,
  OperationObject,
  ParameterObject,
  Referenced,
  ResponseObject,
} from './openapi.ts';

const description = `Gives API keys to programs and takes them away, for administrators: API clients with \`is_admin\`.

Bodies are JSON objects in UTF-8 of at most 64 KB. Times are RFC 3339; one with another offset is taken and comes back in UTC. Booleans may also be the strings \`"true"\` and \`"false"\`. Members may be added to answers; a member or parameter that is not known is refused in requests.

Every refusal is a problem (RFC 9457) with a stable \`reason\`. Besides those of each call there are 404 \`not_found\`, 405 \`method_not_allowed\` with \`Allow\`, 429 \`rate_limited\` with \`Retry-After\` for more than 200 calls a second from one address, and what nginx says to requests that are not well-formed HTTP. GET may be HEAD everywhere.

Examples with one name belong together: parameters, body and answer.`;

const tags: Readonly<Record<Tag, string>> = {
  'API clients': 'Programs that may call: what they are named, may do, and until when.',
  'API keys': 'The keys of an API client. None is shown but in the answer that makes it.',
  Credentials: 'Questions about a credential, for whoever has it.',
  'All clients': 'Every API client as one document, and the way back.',
  'What happened': 'The audit trail, and why requests were refused.',
  Gateways: 'Who decides on this database, and up to which change.',
  Health: 'Public, and at these exact paths only.',
  'This document': 'What you read, as JSON and as a page.',
};

const numeric = { type: 'integer', format: 'int64', minimum: 1 } as const;

const pathParameters: Readonly<Record<string, Pick<ParameterObject, 'description' | 'schema' | 'example'>>> = {
  id: {
    description: 'The id of the API client: what stands before the dot of its keys.',
    schema: numeric,
    example: 7,
  },
  key_id: { description: 'The id of the key, from the list of keys.', schema: numeric, example: 12 },
  request_id: {
    description: 'The id of the request: in its problem, in the header `X-Request-Id` of its answer, and in both logs.',
    schema: { type: 'string' },
    example: '5709a50053f5cfbafe8d22a36a8304af',
  },
  reason: { description: 'The `reason` of a problem.', schema: { type: 'string' }, example: 'unknown_key' },
};

const requestHeaders: Readonly<Record<RequestHeader, Omit<ParameterObject, 'name' | 'in'>>> = {
  'Idempotency-Key': {
    description:
      'Makes it safe to send the call again: a new one for each creation, such as a UUID; bare or in quotes.',
    schema: { type: 'string', pattern: idempotencyKeyPattern.source },
  },
};

const text = { type: 'string' } as const;

/** Those that are required come with every answer that names them. */
const answerHeaders = {
  'X-Request-Id': { required: true, description: 'As in problems and in every log.', schema: text },
  'Cache-Control': { required: true, description: 'Nothing is to be stored.', schema: { const: 'no-store' } },
  Deprecation: {
    description: 'Since when another key has taken the place of the one that was used (RFC 9745).',
    schema: { type: 'string', pattern: '^@[0-9]+$' },
  },
  Sunset: { description: 'Until when that key is accepted (RFC 8594).', schema: text },
  Location: {
    required: true,
    description: 'The path of what was made.',
    schema: { type: 'string', format: 'uri-reference' },
  },
  Link: { description: 'The next page, `rel="next"` (RFC 8288), when there is one.', schema: text },
  'Idempotent-Replayed': { description: 'This call was done before.', schema: { const: 'true' } },
  'WWW-Authenticate': { description: 'What is accepted (RFC 9110), and for access tokens why not.', schema: text },
  'X-jwt-error': { description: 'Why an access token is not accepted.', schema: text },
  'Retry-After': { description: 'Seconds to wait.', schema: { type: 'string', pattern: '^[0-9]+$' } },
  Accept: { description: 'The media type that is taken.', schema: text },
  'Accept-Encoding': { description: 'The content coding that is taken.', schema: text },
} satisfies Record<AnswerHeader, HeaderObject> & Record<string, HeaderObject>;

type HeaderName = keyof typeof answerHeaders;
type ToSchema = (schema: z.ZodType) => JsonSchema;

const ofEveryAnswer = ['X-Request-Id', 'Cache-Control'] as const;
const ofReplacedKeys = ['Deprecation', 'Sunset'] as const;

const publicProblems = { 500: 'InternalError', 503: 'Unavailable' } as const;
const adminProblems = { 401: 'Unauthenticated', 403: 'Forbidden', 500: 'InternalError', 503: 'CannotTell' } as const;

const all = Object.entries(problemsOfAll);
const ofCredentials = Object.entries(problemsOfCredentials);
const commonProblems = {
  Unauthenticated: describeProblem(401, withStatus(401, ofCredentials), false),
  Forbidden: describeProblem(403, withStatus(403, ofCredentials), false),
  InternalError: describeProblem(500, withStatus(500, all), true),
  Unavailable: describeProblem(503, withStatus(503, all), true),
  CannotTell: describeProblem(503, withStatus(503, [...ofCredentials, ...all]), false),
};

/**
 * OpenAPI 3.1 of the management API, from the schemas that validate requests. With zod's own JSON Schema: its `$defs` are
 * the components, so no further library is needed.
 */
export function createOpenApiDocument(): OpenApiDocument {
  const schemas: Record<string, JsonSchema> = {};
  const toSchema = (schema: z.ZodType) => toJsonSchema(schema, schemas);
  toSchema(problemAnswer);
  const paths: Record<string, Record<string, OperationObject>> = {};
  for (const operation of operations) {
    (paths[operation.path] ??= {})[operation.method] = describeOperation(operation, toSchema);
  }
  return {
    openapi: '3.1.1',
    info: { title: 'APIGW management API', version: '1', description },
    servers: [{ url: '/', description: 'The gateway that this document comes from.' }],
    security: [{ apk: [] }, { access_token: [] }],
    tags: Object.entries(tags).map(([name, about]) => ({ name, description: about })),
    paths,
    components: {
      securitySchemes: {
        apk: {
          type: 'apiKey',
          in: 'header',
          name: 'Authorization',
          description:
            'The key of an API client with `is_admin`, after the name of its scheme: `Authorization: apk <id>.<64 characters>`.',
        },
        access_token: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'JWT',
          description:
            'An access token of an OpenID Provider, where they are accepted, whose client is the `api_client_id` of an API client with `is_admin`.',
        },
      },
      parameters: Object.fromEntries(
        Object.entries(pathParameters).map(([name, about]) => [name, { name, in: 'path', required: true, ...about }]),
      ),
      headers: answerHeaders,
      responses: commonProblems,
      schemas: Object.fromEntries(Object.entries(schemas).sort(([one], [other]) => (one < other ? -1 : 1))),
    },
  };
}

function describeOperation(operation: Operation, toSchema: ToSchema): OperationObject {
  const { body, examples } = operation;
  return {
    operationId: operation.operationId,
    tags: [operation.tag],
    summary: operation.summary,
    ...(operation.description !== undefined && { description: operation.description }),
    ...(operation.isPublic && { security: [] }),
    ...withMembers('parameters', describeParameters(operation, toSchema)),
    ...(body && {
      requestBody: {
        required: !body.isOptional,
        content: {
          'application/json': {
            schema: toSchema(body.schema),
            ...withMembers(
              'examples',
              toExamples(examples, ({ body: value }) => value),
            ),
          },
        },
      },
    }),
    responses: describeResponses(operation, toSchema),
  };
}

function describeParameters(
  { path, query, headers = [], examples }: Operation,
  toSchema: ToSchema,
): Referenced<ParameterObject>[] {
  const ofPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({ $ref: `#/components/parameters/${name}` }));
  const examplesOf = (name: string) =>
    withMembers(
      'examples',
      toExamples(examples, ({ parameters }) => parameters?.[name]),
    );
  const ofHeaders = headers.map(
    (name) => ({ name, in: 'header', ...requestHeaders[name], ...examplesOf(name) }) as const,
  );
  const { properties = {}, required = [] } = query ? toSchema(query) : {};
  const ofQuery = Object.entries(properties).map(([name, { description: about, ...schema }]) => ({
    name,
    in: 'query' as const,
    ...(required.includes(name) && { required: true }),
    ...(about !== undefined && { description: about }),
    // zod has it as the text that it is in a query string
    schema:
      schema.type === 'integer' && schema.default !== undefined
        ? { ...schema, default: Number(schema.default) }
        : schema,
    ...examplesOf(name),
  }));
  return [...ofPath, ...ofHeaders, ...ofQuery];
}

function describeResponses(operation: Operation, toSchema: ToSchema): Record<string, Referenced<ResponseObject>> {
  const { isPublic = false, answer, furtherAnswers = [], examples } = operation;
  const responses: Record<string, ResponseObject> = {};
  // one status may have several media types
  const add = (status: number, { content, ...response }: ResponseObject) => {
    const { description: earlier, headers, content: others } = responses[status] ?? {};
    responses[status] = {
      description: earlier === undefined ? response.description : `${earlier}\n\n${response.description}`,
      headers: { ...headers, ...response.headers },
      ...withMembers('content', { ...others, ...content }),
    };
  };
  for (const one of [answer, ...furtherAnswers]) {
    add(one.status, {
      description: one.description,
      headers: refer(...ofEveryAnswer, ...(isPublic ? [] : ofReplacedKeys), ...(one.headers ?? [])),
      content: contentOf(one, one === answer ? examples : {}, toSchema),
    });
  }
  const own = operation.problems.map((reason) => [reason, problems[reason]] as const);
  for (const [status, known] of byStatus(own)) add(status, describeProblem(status, known, isPublic, examples));
  const references: Record<string, Reference> = {};
  for (const [status, name] of Object.entries(isPublic ? publicProblems : adminProblems)) {
    // a status that is an answer too cannot be a reference
    if (responses[status]) add(Number(status), commonProblems[name]);
    else references[status] = { $ref: `#/components/responses/${name}` };
  }
  return { ...responses, ...references };
}

function contentOf(
  { schema, mediaType = 'application/json' }: Answer,
  examples: Operation['examples'],
  toSchema: ToSchema,
): MediaTypes {
  if (!schema) return {};
  return {
    [mediaType]: {
      schema: toSchema(schema),
      ...withMembers(
        'examples',
        toExamples(examples, ({ answer }) => answer),
      ),
    },
  };
}

type Named<T> = readonly [reason: string, T];

function byStatus(known: readonly Named<KnownProblem>[]): [ProblemStatus, Named<KnownProblem>[]][] {
  const statuses = [...new Set(known.map(([, { status }]) => status))].sort();
  return statuses.map((status) => [status, withStatus(status, known)]);
}

function withStatus(status: ProblemStatus, known: readonly Named<KnownProblem>[]): Named<KnownProblem>[] {
  return known.filter(([, problem]) => problem.status === status);
}

function describeProblem(
  status: ProblemStatus,
  known: readonly Named<KnownProblem>[],
  isPublic: boolean,
  examples: Operation['examples'] = {},
): ResponseObject {
  const { description: meaning, headers }: { description: string; headers?: readonly HeaderName[] } =
    problemStatuses[status];
  const reasons = known.map(([reason]) => reason);
  return {
    description: `${meaning}\n\n${known.map(([reason, { description: about }]) => `- \`${reason}\`: ${about}`).join('\n')}`,
    headers: refer(...ofEveryAnswer, ...(isPublic ? [] : ofReplacedKeys), ...(headers ?? [])),
    content: {
      'application/problem+json': {
        schema: {
          allOf: [
            { $ref: '#/components/schemas/Problem' },
            { type: 'object', properties: { status: { const: status }, reason: { enum: reasons } } },
          ],
        },
        ...withMembers('examples', exampleProblems(status, known, examples)),
      },
    },
  };
}

/** Those of the operation, each with its request, and for all other reasons the general ones. */
function exampleProblems(
  status: number,
  known: readonly Named<KnownProblem>[],
  examples: Operation['examples'],
): Examples {
  const requestId = '5709a50053f5cfbafe8d22a36a8304af';
  const present = (reason: string, detail: string, errors: KnownProblem['errors'] = []) =>
    presentProblem(new Problem(status, reason, detail, { errors }), requestId);
  const own = Object.entries(examples).flatMap(([name, { summary, problem, parameters, body }]) =>
    problem && known.some(([reason]) => reason === problem.reason)
      ? [
          [
            name,
            {
              summary,
              value: present(problem.reason, problem.detail, problem.errors),
              'x-request': { ...(parameters && { parameters }), ...(body !== undefined && { body }) },
            },
          ] as const,
        ]
      : [],
  );
  const general = known.flatMap(([reason, { description: about, detail, errors }]) =>
    detail === undefined ? [] : [[reason, { summary: about, value: present(reason, detail, errors) }] as const],
  );
  return Object.fromEntries([...own, ...general]);
}

function toExamples(examples: Operation['examples'], read: (example: Example) => unknown): Examples {
  return Object.fromEntries(
    Object.entries(examples).flatMap(([name, example]) => {
      // a request that is refused is no example of one: it stands beside the problem
      const value = example.problem ? undefined : read(example);
      return value === undefined ? [] : [[name, { summary: example.summary, value }]];
    }),
  );
}

function refer(...names: readonly HeaderName[]): Record<string, { readonly $ref: string }> {
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

/** Left out when there is nothing in it. */
function withMembers<K extends string, T extends object>(name: K, value: T): { [key in K]?: T } {
  return Object.keys(value).length === 0 ? {} : ({ [name]: value } as { [key in K]: T });
}

/** As requests have it. Schemas with an id become components. */
function toJsonSchema(schema: z.ZodType, components: Record<string, JsonSchema>): JsonSchema {
  const json = { ...z.toJSONSchema(schema, { io: 'input' }), $schema: undefined };
  const moved = JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/');
  const { $defs = {}, ...rest } = JSON.parse(moved) as JsonSchema;
  Object.assign(components, $defs);
  return rest;
}
