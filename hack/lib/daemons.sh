# shellcheck shell=bash
# Sourced, after messages.sh: daemons that outlive the script that starts them. The script sets
# `daemons`, the directory of their pid files and logs.
#
# A pid file holds the pid and the time at which the process began. The kernel reuses pids, but not
# the pair: a later process of the same pid is never taken for the daemon, nor killed for it.

# started_at <pid>: the process's begin in clock ticks since boot; nothing when it is gone or a zombie
started_at() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name, in parentheses, may hold anything: fields are counted after it.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != Z ]] && printf '%s\n' "${fields[19]}"
}

# start_daemon <name> <command...>
start_daemon() {
    local name=$1
    shift
    setsid "$@" >>"${daemons:?}/$name.log" 2>&1 </dev/null &
    note_pid "$name" $!
}

note_pid() { printf '%s %s\n' "$2" "$(started_at "$2")" >"${daemons:?}/$1.pid"; }

# daemon_pid <name>: its pid while it runs
daemon_pid() {
    local pid begin
    { read -r pid begin <"${daemons:?}/$1.pid"; } 2>/dev/null || return 1
    [[ -n $begin && $(started_at "$pid") == "$begin" ]] && printf '%s\n' "$pid"
}

daemon_runs() { daemon_pid "$1" >/dev/null; }

# stop_daemon <name> [<seconds before it is killed>]
stop_daemon() {
    local name=$1 pid end=$((SECONDS + ${2:-5}))
    if pid=$(daemon_pid "$name"); then
        kill "$pid" 2>/dev/null || true
        while daemon_runs "$name"; do
            if ((SECONDS >= end)); then kill -KILL "$pid" 2>/dev/null || true; fi
            sleep 0.05
        done
    fi
    rm -f "$daemons/$name.pid"
}

# wait_for_daemon <name> <seconds> <command...>: until the command succeeds. Gives up as soon as the
# daemon has ended, since then it never will.
wait_for_daemon() {
    local name=$1 seconds=$2 end=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        daemon_runs "$name" || give_up_on "$name" "ended"
        ((SECONDS < end)) || give_up_on "$name" "was not ready within $seconds s"
        sleep 0.1
    done
}

give_up_on() {
    tail -n 8 "$daemons/$1.log" >&2 2>/dev/null || true
    die "$1 $2; the end of its log is above" "the whole log: $daemons/$1.log"
}
