import type { z } from 'zod';
import type { FieldError } from '../../problem.ts';
import type { ProblemReason } from './problems.ts';

/** One call as the OpenAPI document and the reference page have it: an entry in the table of a resource. */
export interface Operation {
  readonly method: 'get' | 'put' | 'post' | 'delete';
  /** With parameters in braces, by names of `pathParameters`. */
  readonly path: string;
  readonly operationId: string;
  readonly tag: Tag;
  readonly summary: string;
  readonly description?: string;
  /** Without a credential, and so without what may be wrong with one. */
  readonly isPublic?: true;
  /** The schema that validates the query string; each member is a parameter. */
  readonly query?: z.ZodObject;
  readonly headers?: readonly RequestHeader[];
  readonly body?: {
    /** The schema that validates it. */
    readonly schema: z.ZodType;
    readonly isOptional?: true;
  };
  readonly answer: Answer;
  /** In another media type, or with another status. */
  readonly furtherAnswers?: readonly Answer[];
  /** What it may refuse, besides what every call may. */
  readonly problems: readonly ProblemReason[];
  /** By name. Each is sent to a running gateway by a test, which compares the answer. */
  readonly examples: Readonly<Record<string, Example>>;
}

export interface Answer {
  readonly status: 200 | 201 | 202 | 204 | 503;
  readonly description: string;
  /** None: no body. */
  readonly schema?: z.ZodType;
  /** application/json unless said otherwise */
  readonly mediaType?: string;
  /** Besides those that every answer has. */
  readonly headers?: readonly AnswerHeader[];
}

export type Tag =
  | 'API clients'
  | 'API keys'
  | 'Credentials'
  | 'All clients'
  | 'What happened'
  | 'Gateways'
  | 'Health'
  | 'This document';
export type RequestHeader = 'Idempotency-Key';
export type AnswerHeader = 'Location' | 'Link' | 'Idempotent-Replayed';

export interface Example {
  readonly summary: string;
  /** Of the query string and of headers, by name. Ids in the path are those of the API client `billing`. */
  readonly parameters?: Readonly<Record<string, string | number | boolean>>;
  readonly body?: unknown;
  /** The body of the answer; undefined where there is none. */
  readonly answer?: unknown;
  /** Instead of the answer: what is refused, in place of the problem's general example. */
  readonly problem?: {
    readonly reason: ProblemReason;
    readonly detail: string;
    readonly errors?: readonly FieldError[];
  };
}
