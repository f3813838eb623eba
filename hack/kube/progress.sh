# shellcheck shell=bash
# Sourced, after messages.sh: long steps that say where they are.

# step <what> <command...>: says what begins, that it still goes on, and how long it took.
step() {
    local what=$1 begin=$SECONDS ticker
    shift
    say "$what"
    tick "$what" &
    ticker=$!
    # No `if` and no `||` around the command: set -e is to end it at its first failure.
    # shellcheck disable=SC2064 # the pid is known now, and local
    trap "kill $ticker 2>/dev/null || true" EXIT
    "$@"
    kill "$ticker"
    wait "$ticker" 2>/dev/null || true
    trap - EXIT
    say "  done after $((SECONDS - begin)) s"
}

# Its own sleep ends with it, or a pipe that reads our output would stay open.
tick() {
    local sleeper='' begin=$SECONDS
    trap '[[ -z $sleeper ]] || kill "$sleeper" 2>/dev/null; exit' TERM
    while :; do
        sleep 60 &
        sleeper=$!
        wait "$sleeper"
        say "  still $1, $((SECONDS - begin)) s"
    done
}
