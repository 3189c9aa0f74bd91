/** Makes the completions of bash and zsh of the help texts. */
import { isFile } from './help.mjs';

const quote = (word) => `'${word.replaceAll("'", `'\\''`)}'`;

/** A file for bash; it needs no bash-completion to be sourced. */
export function bashCompletion({ commands }) {
  const names = commands.map(({ name }) => name).join(' ');
  const cases = commands.map(({ name, options, subcommands, takesFiles }) => {
    const valued = options.filter(({ value, isOptional }) => value !== undefined && !isOptional);
    const list = (wanted) => wanted.map(({ option }) => option).join(' ');
    return `    ${name})
      options=${quote(options.map(({ option }) => option).join(' '))}
      words=${quote(name === 'help' ? names : subcommands.join(' '))}
      file_options=${quote(list(valued.filter(({ value }) => isFile(value))))}
      value_options=${quote(list(valued.filter(({ value }) => !isFile(value))))}
      takes_files=${takesFiles ? '1' : ''}
      ;;
`;
  });
  return `# bash completion for p2p-update(1), made of its help texts by scripts/package.
_p2p_update() {
  local word=\${COMP_WORDS[COMP_CWORD]} previous= command= given= i
  local options= words= file_options= value_options= takes_files=
  COMPREPLY=()
  ((COMP_CWORD > 0)) && previous=\${COMP_WORDS[COMP_CWORD - 1]}
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -* ]] && continue
    if [[ -z $command ]]; then command=\${COMP_WORDS[i]}; else given=1; fi
  done
  case $command in
    '')
      mapfile -t COMPREPLY < <(compgen -W ${quote(`${names} --help --version`)} -- "$word")
      return
      ;;
${cases.join('')}    *) return ;;
  esac
  if [[ " $value_options " == *" $previous "* ]]; then
    return
  elif [[ " $file_options " == *" $previous "* ]]; then
    takes_files=1 options= words= given=1
  elif [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    return
  elif [[ -n $words && -z $given ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    return
  fi
  if [[ -n $takes_files ]]; then
    # Fails outside of a completion, where there is nothing to set.
    compopt -o filenames 2>/dev/null || :
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -F _p2p_update p2p-update
`;
}

/** A file for zsh. */
export function zshCompletion({ commands }) {
  const named = commands.map(({ name, summary }) => quote(`${name}:${summary}`));
  const cases = commands.map((command) => {
    const specs = command.options.map(zshOption);
    const names = commands.map(({ name }) => name);
    const words = command.name === 'help' ? names : command.subcommands;
    if (words.length > 0) specs.push(quote(`1:command:(${words.join(' ')})`));
    specs.push(quote(command.takesFiles ? '*:file:_files' : '*: :'));
    return `    ${command.name})
      _arguments \\
        ${specs.join(' \\\n        ')}
      ;;
`;
  });
  return `#compdef p2p-update
# zsh completion for p2p-update(1), made of its help texts by scripts/package.
local -a commands
commands=(
  ${named.join('\n  ')}
)
if ((CURRENT == 2)); then
  _describe -t commands 'p2p-update command' commands
else
  shift words
  ((CURRENT--))
  case $words[1] in
${cases.join('')}  esac
fi
`;
}

function zshOption({ option, summary = '', value, isOptional, isRepeatable }) {
  const about = summary.replaceAll(/[[\]\\]/g, '\\$&').replaceAll(':', '\\:');
  const argument =
    value === undefined
      ? ''
      : `${isOptional ? '::' : ':'}${value}:${isFile(value) ? '_files' : ' '}`;
  return quote(`${isRepeatable ? '*' : ''}${option}[${about}]${argument}`);
}
