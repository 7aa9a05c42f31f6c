#compdef moonwatch
# Completes moonwatch in zsh: source <(moonwatch completion zsh), after compinit
_moonwatch() {
  local line
  local -a found
  for line in "${(@f)$("${(e)words[1]/#\~/$HOME}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      :files) _files ;;
      :dirs) _files -/ ;;
      ?*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
    esac
  done
  (( $#found )) && _describe -V moonwatch found
}
compdef _moonwatch moonwatch
