#!/bin/sh
# One run for each seed: how much of a result is chance?
recipe=runs/seeds.sh
to=out/seeds
# shellcheck source=runs/common.sh
. "$(dirname -- "$0")/common.sh"

usage() {
  cat <<'TEXT'
Usage: runs/seeds.sh [--to DIR] SEED... [-- DEVICE FLAGS...]

Trains and evaluates once for each seed, and prints the scores with their mean and standard deviation. What stands after --
goes to src/finetuneGlobal.ts as it is. Each run has a folder of its own, DIR/seed-SEED (DIR: out/seeds).

Stopped by Ctrl-C, a kill or a crash, the same command goes on: finished runs are passed over, a run that was cut off goes on
from its newest checkpoint.

Examples
  runs/seeds.sh 41 42 43 -- cpu --lora
  runs/seeds.sh 1 2 3 4 5 -- cpu --lora --preset debug
  runs/seeds.sh --to out/lr-1e-4 41 42 43 -- 0 --lora --model DIR --data users/ --lr 1e-4
TEXT
}

check_value() { is_whole "$1" || fail "expected seeds, whole numbers, got \"$1\""; }

run_value() {
  seed=$1
  shift
  run_once "seed-$seed" "$@" --seed "$seed"
}

main "$@"
