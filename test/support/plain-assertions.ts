import assert, { AssertionError } from 'node:assert/strict';

/**
 * For `assert.ok` without a message Node looks for the text of the condition, in the source at the place of the call. Those
 * are of the compiled text, which is one long line, and the search then takes minutes. The stack has the right place.
 */
function ok(value: unknown, message: string | Error = 'the condition does not hold'): void {
  if (value) return;
  if (message instanceof Error) throw message;
  throw new AssertionError({ message, actual: value, expected: true, operator: '==', stackStartFn: ok });
}

Object.assign(assert, { ok });
