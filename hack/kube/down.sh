# shellcheck shell=bash
# Sourced by hack/cluster: takes everything down, whatever state `up` has left it in.

take_down() {
    local daemon
    # The kubelet first, or it would start again what is ended here.
    for daemon in kubelet kube-proxy controller-manager scheduler crd-server apiserver etcd; do
        stop_daemon "$daemon"
    done
    end_containers
    stop_daemon containerd
    end_remaining_processes
    unmount_everything
    restore_what_was
    rm -rf --one-file-system "$cluster"
}

end_containers() {
    local container
    daemon_runs containerd || return 0
    for container in $(containerd_client tasks ls -q 2>/dev/null); do
        containerd_client tasks rm --force "$container" >/dev/null 2>&1 || true
    done
    for container in $(containerd_client containers ls -q 2>/dev/null); do
        containerd_client containers rm "$container" >/dev/null 2>&1 || true
    done
}

# What a containerd that died has left: the containers' processes and the shims that watch them. The
# shims are known by our socket on their command line.
end_remaining_processes() {
    local pid command
    for pid in $(kubernetes_processes); do kill -KILL "$pid" 2>/dev/null || true; done
    for command in /proc/[0-9]*/cmdline; do
        # It may have ended meanwhile.
        if { tr '\0' ' ' <"$command"; } 2>/dev/null | grep -qF -- "-address $containerd_socket"; then
            pid=${command%/cmdline}
            kill -KILL "${pid#/proc/}" 2>/dev/null || true
        fi
    done
}

# The directory is removed only when nothing is mounted below it any more: a volume of a pod may be
# somebody's data.
unmount_everything() {
    local try
    for try in 1 2 3 4 5; do
        unmount_below "$cluster"
        [[ -n $(mounts_below "$cluster") ]] || return 0
        sleep "0.$try"
    done
    die "these are still mounted: $(mounts_below "$cluster" | paste -s -d ' ')" \
        "unmount them, then run: hack/cluster down"
}
