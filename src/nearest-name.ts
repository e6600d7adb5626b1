/** The candidate with the smallest edit distance (Levenshtein) to what was written, and that distance. */
export function nearestName(written: string, candidates: readonly string[]): { name: string; distance: number } {
  const distances = candidates.map((name) => ({ name, distance: editDistance(written, name) }));
  return distances.reduce((best, next) => (next.distance < best.distance ? next : best));
}

function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (const [row, letter] of Array.from(from).entries()) {
    const current = [row + 1];
    for (let column = 1; column <= to.length; column++) {
      const substitution = (previous[column - 1] ?? 0) + (letter === to[column - 1] ? 0 : 1);
      current.push(Math.min((previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, substitution));
    }
    previous = current;
  }
  return previous.at(-1) ?? 0;
}
