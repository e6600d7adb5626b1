/**
 * Answers many questions with few queries: one is under way at a time, and what is asked meanwhile is the next. So a
 * query always begins after the questions that it answers; when it fails, all of them do.
 */
export function inBatches<Question, Answer>(
  query: (questions: readonly Question[]) => Promise<(question: Question) => Answer>,
): (question: Question) => Promise<Answer> {
  let underWay: Promise<unknown> = Promise.resolve();
  let next: { readonly questions: Question[]; readonly answers: Promise<(question: Question) => Answer> } | undefined;

  function begin(): NonNullable<typeof next> {
    const questions: Question[] = [];
    const answers = underWay.then(() => {
      next = undefined;
      return query(questions);
    });
    underWay = answers.catch(() => undefined);
    return { questions, answers };
  }

  return async (question) => {
    next ??= begin();
    next.questions.push(question);
    const answerTo = await next.answers;
    return answerTo(question);
  };
}
