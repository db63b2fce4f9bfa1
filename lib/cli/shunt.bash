# bash completion for shunt(1): verbs, options, processes that have shunt in them, patches that are applied, files.
# It needs no package bash-completion.

# The processes, by number and by name.
_shunt_processes() { "$1" ps 2>/dev/null | awk 'NR > 1 { print $1; print $3 }'; }

# The patches that are applied in a process.
_shunt_patches() { "$1" status "$2" 2>/dev/null | sed -n 's/^\([^ ][^:]*\): applied .*/\1/p'; }

# The lines that begin with a word, as they must be typed. Names are chosen by others: compgen -W would expand them, and run
# what a process is called.
_shunt_beginning_with() {
  local line
  while IFS= read -r line; do
    [[ -z $line || $line != "$1"* ]] || printf '%q\n' "$line"
  done
}

_shunt() {
  local command=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local verb= words=() k
  COMPREPLY=()
  # The words without options and what belongs to them: the verb, then its arguments.
  for ((k = 1; k < COMP_CWORD; ++k)); do
    case ${COMP_WORDS[k]} in
      --symbol | --caller | --not-caller | --provider | --reach | --also | --name | --wait) ((++k)) ;;
      -*) ;;
      *) if [ -z "$verb" ]; then verb=${COMP_WORDS[k]}; else words+=("${COMP_WORDS[k]}"); fi ;;
    esac
  done

  case $previous in
    --symbol | --caller | --not-caller | --provider | --reach | --also | --name | --wait) return ;;
  esac
  if [[ $word = -* ]]; then
    local options="--help"
    case $verb in
      '') options+=" --version" ;;
      ps) options+=" --json" ;;
      imports) options+=" --json --symbol --caller" ;;
      check) options+=" --json --symbol --caller --not-caller --provider --reach --also --dlsym" ;;
      apply) options+=" --json --symbol --caller --not-caller --provider --reach --also --dlsym --name --force-permissions --keep --only" ;;
      revert) options+=" --json --all --keep --wait --only" ;;
      status) options+=" --json --verify --only" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    return
  fi

  local files='!*.so' # what compgen leaves out
  case $verb,${#words[@]} in
    ,*) mapfile -t COMPREPLY < <(compgen -W "ps imports check apply revert status" -- "$word") ;;
    apply,0 | revert,0 | status,0)
      mapfile -t COMPREPLY < <(_shunt_processes "$command" | _shunt_beginning_with "$word")
      ;;
    revert,1) mapfile -t COMPREPLY < <(_shunt_patches "$command" "${words[0]}" | _shunt_beginning_with "$word") ;;
    apply,1 | check,0) mapfile -t COMPREPLY < <(compgen -f -X "$files" -- "$word"; compgen -d -S / -- "$word") ;;
    check,* | imports,*)
      mapfile -t COMPREPLY < <(_shunt_processes "$command" | _shunt_beginning_with "$word"; compgen -f -- "$word")
      ;;
  esac
  [[ ${COMPREPLY[0]-} != */ ]] || compopt -o nospace 2>/dev/null
}
complete -F _shunt shunt
