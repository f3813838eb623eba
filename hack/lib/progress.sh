# shellcheck shell=bash
# Sourced, after messages.sh: long steps that say where they are.

# step <what> <command...>: says what begins, every 10 s that it still runs, and how long it took.
step() {
    local what=$1 begin=$SECONDS ticker before
    shift
    say "$what"
    tick "$what" &
    ticker=$!
    before=$(exit_trap)
    # No `if` and no `||` around the command: set -e is to end it at its first failure.
    # shellcheck disable=SC2064 # the pid is known now, and local
    trap "kill $ticker 2>/dev/null || true; ${before:-:}" EXIT
    "$@"
    kill "$ticker"
    wait "$ticker" 2>/dev/null || true
    if [[ -n $before ]]; then
        # shellcheck disable=SC2064 # what the script itself had set
        trap "$before" EXIT
    else
        trap - EXIT
    fi
    say "  done after $((SECONDS - begin)) s: $what"
}

# What the shell runs at its end now. `trap -p` prints: trap -- 'COMMAND' EXIT
exit_trap() {
    local words
    eval "words=($(trap -p EXIT))"
    printf '%s' "${words[2]:-}"
}

# Its own sleep ends with it, or a pipe that reads our output would stay open.
tick() {
    local sleeper='' begin=$SECONDS
    trap '[[ -z $sleeper ]] || kill "$sleeper" 2>/dev/null; exit' TERM
    while :; do
        sleep 10 &
        sleeper=$!
        wait "$sleeper"
        say "  still $1, $((SECONDS - begin)) s"
    done
}
