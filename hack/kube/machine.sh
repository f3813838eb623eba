# shellcheck shell=bash
# Sourced by hack/cluster: what the cluster needs of this machine, and what it changes on it outside
# of its own directory. `down` undoes the changes from the notes that `up` takes first.

# Parameters of the kernel that kubelet, kube-proxy or `up` itself set.
changed_parameters=(
    kernel.keys.root_maxbytes kernel.keys.root_maxkeys kernel.panic kernel.panic_on_oops
    net.bridge.bridge-nf-call-iptables net.ipv4.conf.all.route_localnet net.ipv4.ip_forward
    net.ipv4.vs.conntrack vm.overcommit_memory vm.panic_on_oom
)

# Directories that kubelet, containerd and the network plugins make at fixed places.
fixed_directories=(
    /etc/cni /opt/cni /run/containerd /run/netns /usr/libexec/kubernetes
    /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods
)

install_what_is_missing() {
    install_commands containerd=containerd runc=runc iptables=iptables conntrack=conntrack socat=socat \
        ebtables=ebtables ethtool=ethtool ip=iproute2 sysctl=procps mount=mount \
        openssl=openssl curl=curl gcc=gcc kubectl=kubernetes-client
    install_missing containernetworking-plugins libc6-dev
    local version
    version=$(containerd --version | sed -n 's/.* v\?\([0-9]*\)\.[0-9]*\.[0-9].*/\1/p')
    # The kubelet 1.20 speaks CRI v1alpha2, which containerd 2 has dropped.
    [[ $version == 1 ]] || die "containerd 1.x is needed, this is: $(containerd --version)" \
        "put Debian 12's containerd first on the PATH"
}

# The folder of the Kubernetes binaries, built first where there is none.
find_binaries() {
    local binary
    if [[ -z ${KUBE_BIN:-} ]]; then
        KUBE_BIN=$repo/out/kube
        "$repo/hack/build-kubernetes" "$KUBE_BIN"
    fi
    KUBE_BIN=$(realpath "$KUBE_BIN")
    for binary in "${binaries[@]}"; do
        [[ -x $KUBE_BIN/$binary ]] || die "$KUBE_BIN/$binary is missing" \
            "KUBE_BIN must name a folder that holds: ${binaries[*]}" \
            "unset it, and they are built into out/kube (5 to 20 minutes)"
    done
}

refuse_other_kubernetes() {
    local port
    for port in 2379 2380 6443 7443 10250; do
        ! port_is_open "$port" || die "another program listens on port $port, which the cluster needs" \
            "ss -ltnp 'sport = :$port' shows which"
    done
    [[ -z $(kubernetes_processes) ]] || die "pods of another Kubernetes run on this machine" \
        "end it first; one machine holds one kubelet"
}

port_is_open() { [[ -n $(ss -H -l -t -n "sport = :$1") ]]; }

# Every process in a control group of the kubelet.
kubernetes_processes() {
    find /sys/fs/cgroup -path '*/kubepods*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u
}

# --- notes of what was -----------------------------------------------------------------------------

note_what_was() {
    local parameter
    mkdir -p "$before"
    for parameter in "${changed_parameters[@]}"; do
        sysctl -e "$parameter" 2>/dev/null || true
    done >"$before/parameters"
    note_absent "$before/absent" "${fixed_directories[@]}"
    namespaces >"$before/namespaces"
}

namespaces() { (cd /run/netns 2>/dev/null && printf '%s\n' cni-*) | grep -v '\*' | sort || true; }

restore_what_was() {
    remove_network
    [[ ! -s $before/parameters ]] || sysctl -q -e -p "$before/parameters" >/dev/null 2>&1 || true
    remove_control_groups '*/kubepods*'
    remove_traces "$before/absent"
    find /var/lib/cni -name "$network-*" -delete 2>/dev/null || true
}

remove_network() {
    local namespace
    while read -r namespace; do
        umount -l "/run/netns/$namespace" 2>/dev/null || true
        rm -f "/run/netns/$namespace"
    done < <(namespaces | comm -23 - <(cat "$before/namespaces" 2>/dev/null || true))
    ip link delete "$bridge" 2>/dev/null || true
    ip address delete "$node_address/32" dev lo 2>/dev/null || true
    forget_rules iptables
    forget_rules ip6tables
}

# Takes out the chains of Kubernetes and of the network plugins and every rule that names them, in one
# step; all others stay as they are.
forget_rules() {
    local rules
    rules=$("$1-save" 2>/dev/null) || return 0
    grep -qE '(KUBE|CNI)-' <<<"$rules" || return 0
    grep -vE '(KUBE|CNI)-' <<<"$rules" | "$1-restore" || say "warning: $1 rules of the cluster were left behind"
}
