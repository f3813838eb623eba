# shellcheck shell=bash
# Sourced by hack/cluster: the one node, with a containerd of its own (never the machine's), a bridge
# for the pods, kubelet and kube-proxy.

containerd_client() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

start_node() {
    ip address replace "$node_address/32" dev lo
    sysctl -q -w net.ipv4.ip_forward=1
    configure_network
    start_containerd
    import_pause_image
    start_kubelet
    start_kube_proxy
}

# The firewall plugin lets pods through where another program (a Docker engine) has set the policy of
# forwarding to DROP.
configure_network() {
    mkdir -p "$cluster/network"
    cat >"$cluster/network/10-bridge.conflist" <<CONFIG
{
  "cniVersion": "0.4.0",
  "name": "$network",
  "plugins": [
    {
      "type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$cluster/network/addresses",
        "ranges": [[{ "subnet": "$pod_range" }]], "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } },
    { "type": "firewall" }
  ]
}
CONFIG
}

# restrict_oom_score_adj: where this machine is itself a container or a small VM, a lower score than
# containerd's own cannot be set, and pods would not start.
start_containerd() {
    cat >"$cluster/containerd.toml" <<CONFIG
version = 2
root = "$cluster/containerd"
state = "$cluster/containerd-state"
disabled_plugins = ["io.containerd.internal.v1.opt"] # would make /opt/containerd
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$cluster/network"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$cluster/runc"
CONFIG
    start_daemon containerd containerd --config "$cluster/containerd.toml"
    wait_for_daemon containerd 30 containerd_client version
}

# The container that holds a pod's namespaces only waits; nothing has to be pulled for it.
import_pause_image() {
    mkdir -p "$cluster/pause"
    echo 'int pause(void); int main(void) { for (;;) pause(); }' |
        gcc -static -s -x c - -o "$cluster/pause/pause"
    make_docker_archive "$pause_image" "$cluster/pause" '["/pause"]' "$cluster/pause.tar"
    import_image "$cluster/pause.tar"
}

import_image() {
    [[ -s $1 ]] || die "$1 is no image archive" "docker save or hack/images make one"
    containerd_client images import "$1" >"$cluster/import.log" 2>&1 ||
        { cat "$cluster/import.log" >&2 && die "containerd refused $1"; }
}

start_kubelet() {
    cat >"$cluster/kubelet.yaml" <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_address
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: true }
  x509: { clientCAFile: $pki/ca.crt }
authorization: { mode: Webhook }
cgroupDriver: cgroupfs
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
failSwapOn: false
featureGates: { DevicePlugins: false }
# A developer's disk may be nearly full, and images that were loaded by hand cannot be pulled again.
evictionHard: { memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1% }
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
CONFIG
    start_daemon kubelet "$KUBE_BIN/kubelet" --config="$cluster/kubelet.yaml" \
        --kubeconfig="$pki/kubelet.kubeconfig" --root-dir="$cluster/kubelet" \
        --volume-plugin-dir="$cluster/kubelet/volume-plugins" --cert-dir="$cluster/kubelet/pki" \
        --container-runtime=remote --container-runtime-endpoint="unix://$containerd_socket" \
        --hostname-override="$node" --node-ip="$node_address" --pod-infra-container-image="$pause_image"
    wait_for_daemon kubelet 60 node_is_ready
}

node_is_ready() { kubectl get node "$node" --no-headers | grep -q ' Ready '; }

start_kube_proxy() {
    cat >"$cluster/kube-proxy.yaml" <<CONFIG
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
bindAddress: 127.0.0.1
hostnameOverride: $node
clusterCIDR: $pod_range
clientConnection: { kubeconfig: $pki/kube-proxy.kubeconfig }
# The kernel's table of connections is left as the machine has it.
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
CONFIG
    start_daemon kube-proxy "$KUBE_BIN/kube-proxy" --config="$cluster/kube-proxy.yaml"
    wait_for_daemon kube-proxy 30 serves_api_to_pods
    # Made by the controller manager; no pod is admitted before.
    wait_for_daemon controller-manager 30 kubectl get serviceaccount default
}

serves_api_to_pods() { iptables -t nat -L KUBE-SERVICES -n | grep -q "$api_service_address"; }
