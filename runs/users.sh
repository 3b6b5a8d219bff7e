#!/bin/sh
# One run for each set of training users: how many people's data does it take, and whose?
recipe=runs/users.sh
to=out/users
# shellcheck source=runs/common.sh
. "$(dirname -- "$0")/common.sh"

usage() {
  cat <<'TEXT'
Usage: runs/users.sh [--to DIR] USER|FROM-TO... [-- DEVICE FLAGS...]

Trains once on each user or range of users, evaluates every result on the same test users, and prints the scores. What stands
after -- goes to src/finetuneGlobal.ts as it is. Each run has a folder of its own, DIR/users-FROM-TO (DIR: out/users).

Stopped by Ctrl-C, a kill or a crash, the same command goes on: finished runs are passed over, a run that was cut off goes on
from its newest checkpoint.

Examples
  runs/users.sh 11 11-14 11-26 11-73 -- cpu --lora      more and more users
  runs/users.sh 11 12 13 14 -- cpu --lora --epochs 4    one user at a time
TEXT
}

check_value() {
  if ! is_whole "${1%%-*}" || ! is_whole "${1#*-}"; then
    fail "expected users, as 11, or ranges of them, as 11-20, got \"$1\""
  fi
}

run_value() {
  range=$1
  shift
  case $range in
    *-*) run_once "users-$range" "$@" --train-users "${range%%-*}" "${range#*-}" ;;
    *) run_once "users-$range" "$@" --train-users "$range" ;;
  esac
}

main "$@"
