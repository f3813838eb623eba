# shellcheck shell=bash
# Sourced by hack/cluster: names, addresses and paths that more than one part uses.
# shellcheck disable=SC2034 # used by the files that are sourced beside this one

# Everything of the cluster is below this directory, the few traces that Kubernetes leaves elsewhere
# aside (machine.sh).
cluster=$(realpath -m "${CLUSTER:-/var/tmp/bgsnap-cluster}")
pki=$cluster/pki
daemons=$cluster/daemons
before=$cluster/before
described=$cluster/described
admin_kubeconfig=$pki/admin.kubeconfig

node=bgsnap-node
# The kubelet refuses a loopback address; this one is put onto lo and reachable from this machine only.
node_address=10.200.0.1
service_range=10.96.0.0/16
api_service_address=10.96.0.1
pod_range=10.244.0.0/24
network=bgsnap-cluster
bridge=cni0

etcd_url=http://127.0.0.1:2379
api_url=https://127.0.0.1:6443
crd_url=https://127.0.0.1:7443

containerd_socket=$cluster/containerd.sock
pause_image=registry.local/pause:1

# In the order in which they are started.
all_daemons=(etcd apiserver crd-server controller-manager scheduler containerd kubelet kube-proxy)
binaries=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy apiextensions-apiserver)
