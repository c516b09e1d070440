#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs the suites that are named, one after the other, and ends with the first that fails.
#
#     tests/suites.sh lint unit integration lab story long
#
# The last line says what came of it, and how long each took. Unit and integration tests run two at
# a time; the others boot guests and build kernels on all processors, one after the other.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONUNBUFFERED=1

lint() {
    ruff format --check . && ruff check . && mypy && lint-imports --no-logo
}

suite() {
    case $1 in
        lint) lint ;;
        unit) pytest --quiet --numprocesses 2 tests/unit ;;
        integration)
            pytest --quiet --numprocesses 2 --durations=5 -m 'not long' tests/integration
            ;;
        lab | story) pytest --verbose --durations=5 -o faulthandler_timeout=0 -m 'not long' "tests/$1" ;;
        long) pytest --verbose --durations=0 -o faulthandler_timeout=0 -m long tests ;;
        *)
            echo "no suite is called $1" >&2
            return 2
            ;;
    esac
}

summary=
for name in "$@"; do
    printf '\n== %s ==\n' "$name"
    began=$SECONDS
    suite "$name" </dev/null
    status=$?
    took=$((SECONDS - began))
    if [[ $status -ne 0 ]]; then
        printf '\nFAILED: %s, exit status %d, after %d s (passed before:%s)\n' \
            "$name" "$status" "$took" "${summary:- none}"
        exit 1
    fi
    summary+=" $name $took s,"
done
printf '\npassed:%s %d s in all\n' "$summary" "$SECONDS"
