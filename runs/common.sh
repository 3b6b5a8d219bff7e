# Shared by the recipes of this folder: a row of runs that continues where it stopped.
# A recipe sets $recipe and $to, defines usage, check_value and run_value, and calls main "$@".
# shellcheck shell=sh
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
failed=

say() { printf '%s: %s\n' "$recipe" "$1" >&2; }

fail() {
  say "$1"
  exit 2
}

is_whole() {
  case $1 in
    '' | *[!0-9]*) return 1 ;;
  esac
}

# Reads the recipe's own words, then does one run for each value.
main() {
  values=
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help)
        usage
        exit 0
        ;;
      --to)
        [ $# -ge 2 ] || fail '--to needs a folder'
        to=$2
        shift
        ;;
      --)
        shift
        break
        ;;
      -*) fail "$1: not known here; the training's own words stand after --" ;;
      *)
        check_value "$1"
        values="$values $1"
        ;;
    esac
    shift
  done
  if [ -z "$values" ]; then
    usage >&2
    exit 2
  fi
  for value in $values; do run_value "$value" "$@"; done
  finish
}

# run_once NAME WORDS...: one run in the folder $to/NAME, with these words for finetuneGlobal. Finished ones are passed over.
run_once() {
  dir=$to/$1
  name=$1
  shift
  mkdir -p "$dir"
  keep_words "$@"
  if [ -e "$dir/finished" ]; then
    say "$name: finished before"
    return
  fi
  refuse_running
  set -- "$@" --checkpoint-dir "$dir/checkpoint" --out "$dir/out"
  if has_checkpoint; then
    say "$name: going on"
    set -- "$@" --resume
  else
    say "$name: starting"
  fi
  code=0
  train "$@" || code=$?
  case $code in
    0) : >"$dir/finished" ;;
    2)
      forget_unbegun
      fail "$name: refused, see above"
      ;;
    130)
      say "$name: stopped; the same command goes on from there"
      exit 130
      ;;
    *)
      say "$name: ended with code $code; the others go on"
      failed="$failed $name"
      ;;
  esac
}

# A folder belongs to one command: results of others are never taken for its own.
keep_words() {
  printf '%s\n' "$@" >"$dir/words.now"
  if [ -e "$dir/words" ] && ! cmp -s "$dir/words" "$dir/words.now"; then
    rm "$dir/words.now"
    fail "$dir was made by another command (its words: $(tr '\n' ' ' <"$dir/words")); name another folder with --to, or remove it"
  fi
  mv "$dir/words.now" "$dir/words"
}

# What was refused before anything was written may be tried again in other words.
forget_unbegun() {
  [ -d "$dir/checkpoint" ] || rm -r "$dir"
}

# Where only this script was killed, its training may still be at work in the folder.
refuse_running() {
  [ -e "$dir/process" ] || return 0
  if ps -p "$(cat "$dir/process")" -o args= 2>/dev/null | grep -q finetuneGlobal; then
    fail "$dir: process $(cat "$dir/process") still trains there; wait for it or end it"
  fi
}

has_checkpoint() {
  for state in "$dir"/checkpoint/checkpoint-*/trainer_state.json; do
    case $state in
      *.tmp-*) ;;
      *) [ ! -e "$state" ] || return 0 ;;
    esac
  done
  return 1
}

# Signals reach the training, which saves before it ends; its exit code is this function's.
train() {
  node --import "$root/node_modules/tsx/dist/loader.mjs" "$root/src/finetuneGlobal.ts" "$@" &
  child=$!
  printf '%s\n' "$child" >"$dir/process"
  trap 'kill -TERM "$child" 2>/dev/null || :' INT TERM HUP
  ended=0
  wait "$child" || ended=$?
  # a signal cuts wait short while the training still saves
  while kill -0 "$child" 2>/dev/null; do
    ended=0
    wait "$child" || ended=$?
  done
  trap - INT TERM HUP
  rm -f "$dir/process"
  return "$ended"
}

finish() {
  node "$root/runs/results.mjs" "$to"
  [ -z "$failed" ] || fail_late
}

fail_late() {
  say "not finished:$failed; the same command tries them again"
  exit 1
}
