import { Argument, type Command } from 'commander';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** A command with what may follow it. */
interface Node {
  /** "clients list"; empty for the program itself. */
  readonly path: string;
  readonly description: string;
  readonly words: readonly { readonly word: string; readonly about: string }[];
}

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('a script that completes commands and options; its first lines say where it goes')
    .addArgument(new Argument('<shell>').choices(shells))
    .action((shell: Shell) => {
      const nodes = nodesOf(program);
      process.stdout.write({ bash: toBash, zsh: toZsh, fish: toFish }[shell](nodes));
    });
}

function nodesOf(command: Command, path: readonly string[] = []): Node[] {
  const inherited = path.length === 0 ? [] : (command.parent?.options ?? []);
  const options = [...command.options, ...inherited].filter(({ hidden, long }) => !hidden && long);
  const subcommands = command.commands.filter((sub) => sub.name() !== 'help');
  const words = [
    ...subcommands.map((sub) => ({ word: sub.name(), about: sub.description() })),
    ...options.map(({ long, description }) => ({ word: long ?? '', about: description })),
    { word: '--help', about: 'what it does' },
  ];
  return [
    { path: path.join(' '), description: command.description(), words },
    ...subcommands.flatMap((sub) => nodesOf(sub, [...path, sub.name()])),
  ];
}

// the command that the words lead to: "clients list" of "apigw --output json clients list --tag x"
const findPath = (nodes: readonly Node[], words: string) => `  local word next path=
  for word in ${words}; do
    next="\${path:+$path }$word"
    case "$next" in
      ${nodes.flatMap(({ path }) => (path === '' ? [] : [`'${path}'`])).join('|')}) path="$next" ;;
    esac
  done
`;

function toBash(nodes: readonly Node[]): string {
  const cases = nodes.map(({ path, words }) => `    '${path}') words='${words.map(({ word }) => word).join(' ')}' ;;`);
  return `# bash completion for apigw:
#   apigw completion bash > /etc/bash_completion.d/apigw
#   or, for this shell: source <(apigw completion bash)
_apigw() {
${findPath(nodes, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"')}  local words=
  case "$path" in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _apigw apigw
`;
}

function toZsh(nodes: readonly Node[]): string {
  const cases = nodes.map(
    ({ path, words }) =>
      `    '${path}') candidates=(${words.map(({ word, about }) => quote(`${word}:${about}`)).join(' ')}) ;;`,
  );
  return `#compdef apigw
# zsh completion for apigw:
#   apigw completion zsh > "\${fpath[1]}/_apigw"
_apigw() {
${findPath(nodes, '"${(@)words[2,CURRENT-1]}"')}  local -a candidates
  case "$path" in
${cases.join('\n')}
  esac
  _describe 'apigw' candidates || _files
}
if [ "$funcstack[1]" = _apigw ]; then _apigw "$@"; else compdef _apigw apigw; fi
`
    .replaceAll('path', 'command_path')
    .replace('fcommand_path', 'fpath');
}

function toFish(nodes: readonly Node[]): string {
  const lines = nodes.flatMap(({ path, words }) => {
    const condition = `__apigw_at ${quote(path)}`;
    return words.map(({ word, about }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-a ${word}`;
      return `complete -c apigw -n ${quote(condition)} ${what} -d ${quote(about)}`;
    });
  });
  return `# fish completion for apigw:
#   apigw completion fish > ~/.config/fish/completions/apigw.fish
function __apigw_at
  set -l path
  for word in (commandline -opc)[2..]
    set -l next (string join -- ' ' $path $word)
    contains -- $next ${nodes.flatMap(({ path }) => (path === '' ? [] : [quote(path)])).join(' ')}; and set path $next
  end
  test "$path" = "$argv[1]"
end
${lines.join('\n')}
`;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
