# shellcheck shell=bash
# Sourced by hack/images and hack/test-engine: a Docker engine of our own, which ends with the script. It has
# its own data (`engine_data`; kept in out/docker as the cache of bases, layers and packages unless the script
# has set another place), sockets and containerd, no network bridge, and touches no packet filter.

engine_data=$(realpath -m "${engine_data:-$repo/out/docker}")
engine_run=

start_engine() {
    install_missing docker.io
    # shellcheck disable=SC2034 # for daemons.sh
    daemons=$engine_data/daemons
    mkdir -p "$daemons"
    end_forgotten_engine
    note_pid script $$
    note_absent "$daemons/absent" /run/containerd /run/docker /run/runc
    # The paths of sockets are limited to 107 characters: not below the repository.
    engine_run=$(mktemp -d /tmp/bgsnap-images.XXXXXX)
    printf '%s\n' "$engine_run" >"$daemons/run-directory"
    trap stop_engine EXIT
    trap 'exit 130' INT TERM
    # The person's own configuration (proxies, contexts, credential helpers) is not ours to use.
    mkdir "$engine_run/client"
    export DOCKER_CONFIG=$engine_run/client DOCKER_HOST=unix://$engine_run/docker.sock DOCKER_BUILDKIT=1
    unset DOCKER_CONTEXT
    start_engine_containerd
    start_dockerd
}

# What a run has left that was killed.
end_forgotten_engine() {
    ! daemon_runs script || die "another script is at work in $engine_data" "wait for it to end"
    stop_daemon dockerd 20
    stop_daemon containerd 10
    engine_run=$(cat "$daemons/run-directory" 2>/dev/null || echo /tmp/bgsnap-images.none)
    unmount_below "$engine_data" "$engine_run"
    rm -rf --one-file-system "$engine_run" "$daemons/run-directory"
    remove_empty_traces "$daemons/absent"
    rm -f "$daemons"/*.log
}

start_engine_containerd() {
    cat >"$engine_run/containerd.toml" <<CONFIG
version = 2
root = "$engine_data/containerd"
state = "$engine_run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$engine_run/containerd.sock"
CONFIG
    start_daemon containerd containerd --config "$engine_run/containerd.toml"
    wait_for_daemon containerd 30 test -S "$engine_run/containerd.sock"
}

start_dockerd() {
    printf '{ "deprecated-key-path": "%s" }\n' "$engine_run/key.json" >"$engine_run/dockerd.json"
    start_daemon dockerd dockerd --config-file "$engine_run/dockerd.json" \
        --data-root "$engine_data/data" --exec-root "$engine_run/exec" --pidfile "$engine_run/dockerd.pid" \
        --host "$DOCKER_HOST" --containerd "$engine_run/containerd.sock" \
        --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false
    wait_for_daemon dockerd 60 docker version
}

# Debian's own client: a newer one on the PATH would need a plugin to build.
docker() { "$(PATH=/usr/bin:$PATH type -P docker)" "$@"; }

stop_engine() {
    stop_daemon dockerd 20
    stop_daemon containerd 10
    unmount_below "$engine_data" "$engine_run"
    remove_control_groups '*/docker/buildkit*'
    remove_control_groups '*/docker'
    remove_empty_traces "$daemons/absent"
    rm -rf --one-file-system "$engine_run" "$daemons/run-directory" "$daemons/script.pid"
}
