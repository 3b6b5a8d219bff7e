#!/bin/sh
# One adapter for each rank: how large need it be?
recipe=runs/ranks.sh
to=out/ranks
# shellcheck source=runs/common.sh
. "$(dirname -- "$0")/common.sh"

usage() {
  cat <<'TEXT'
Usage: runs/ranks.sh [--to DIR] RANK... [-- DEVICE FLAGS...]

Trains and evaluates an adapter of each rank, and prints the scores. Alpha is 8 times the rank, so that ranks differ in size and
not in scale; --lora is added. What stands after -- goes to src/finetuneGlobal.ts as it is. Each run has a folder of its own,
DIR/rank-RANK (DIR: out/ranks).

Stopped by Ctrl-C, a kill or a crash, the same command goes on: finished runs are passed over, a run that was cut off goes on
from its newest checkpoint.

Examples
  runs/ranks.sh 1 4 16 64 -- cpu
  runs/ranks.sh --to out/ranks-8b 4 8 16 -- 0 --model DIR --data users/ --preset paper
TEXT
}

check_value() {
  if ! is_whole "$1" || [ "$1" -lt 1 ]; then fail "expected ranks, whole numbers of at least 1, got \"$1\""; fi
}

run_value() {
  rank=$1
  shift
  run_once "rank-$rank" "$@" --lora --lora-r "$rank" --lora-alpha "$((8 * rank))"
}

main "$@"
