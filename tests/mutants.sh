#!/usr/bin/env bash
# Breaks the protocol in each of the ways of crates/repo/tests/mutants, one after the other, and expects
# the simulation to notice within SEEDS seeds, or else a unit test. Works on a copy of the last commit; nothing here changes.
#
#   tests/mutants.sh [name...]        all, or those whose file name begins so
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
seeds=${SEEDS:-5000}
copy=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$copy/src" 2>/dev/null || true; rm -rf "$copy"' EXIT
git worktree add --quiet --detach "$copy/src" HEAD
# a directory of its own: cargo would take what was built of a mutant for the checkout's
export CARGO_TARGET_DIR=$root/target/mutants RUST_BACKTRACE=0
cd "$copy/src"

missed=0
for patch in "$root"/crates/repo/tests/mutants/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ]; then
    wanted=no
    for arg in "$@"; do case "$name" in "$arg"*) wanted=yes ;; esac; done
    [ "$wanted" = yes ] || continue
  fi
  git apply "$patch"
  out=$copy/out
  if ! cargo test -q -p agent-backup-repo --test simulation --locked --no-run >"$out" 2>&1; then
    printf '%-28s does not build\n' "$name"
    sed -n 1,20p "$out"
    missed=$((missed + 1))
  else
    SEED=${SEED:-0} COUNT=$seeds cargo test -q -p agent-backup-repo --test simulation --locked -- \
      --ignored --exact many_seeds >"$out" 2>&1 || true
    found=$(grep -m1 '^seed [0-9]*: ' "$out" || true)
    if [ -z "$found" ]; then # a regression of ours may be as rare as that, and has a test of its own
      cargo test -q -p agent-backup-repo --lib --locked >"$out" 2>&1 || found=$(grep -m1 '^    tests::' "$out" || true)
    fi
    printf '%-28s %s\n' "$name" "${found:-not found within $seeds seeds, nor by a unit test}"
    [ -n "$found" ] || missed=$((missed + 1))
  fi
  git checkout --quiet -- .
done
[ "$missed" = 0 ] || { echo "$missed not found"; exit 1; }
