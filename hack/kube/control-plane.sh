# shellcheck shell=bash
# Sourced by hack/cluster: etcd, the API server, the server of our custom resources beside it,
# controller manager and scheduler.

as_admin() { curl -sS --cert "$pki/admin.crt" --key "$pki/admin.key" --cacert "$pki/ca.crt" --max-time 20 "$@"; }

# Says nothing in its way of failing: it is asked until it succeeds.
is_ready() { as_admin -f "$1/readyz"; }

start_control_plane() {
    start_etcd
    start_apiserver
    start_crd_server
    start_daemon controller-manager "$KUBE_BIN/kube-controller-manager" --bind-address=127.0.0.1 --port=0 \
        --kubeconfig="$pki/controller-manager.kubeconfig" \
        --authentication-kubeconfig="$pki/controller-manager.kubeconfig" \
        --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
        --leader-elect=false --use-service-account-credentials=true \
        --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
        '--controllers=*,bootstrapsigner,tokencleaner'
    start_daemon scheduler "$KUBE_BIN/kube-scheduler" --bind-address=127.0.0.1 --port=0 --leader-elect=false \
        --kubeconfig="$pki/scheduler.kubeconfig" \
        --authentication-kubeconfig="$pki/scheduler.kubeconfig" \
        --authorization-kubeconfig="$pki/scheduler.kubeconfig"
}

# Nothing in here is to survive the machine: without fsync it is several times faster.
start_etcd() {
    start_daemon etcd "$KUBE_BIN/etcd" --data-dir "$cluster/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster default=http://127.0.0.1:2380
    wait_for_daemon etcd 30 curl -sf --max-time 2 "$etcd_url/health"
}

start_apiserver() {
    start_daemon apiserver "$KUBE_BIN/kube-apiserver" --etcd-servers="$etcd_url" \
        --bind-address=0.0.0.0 --advertise-address="$node_address" --secure-port=6443 --insecure-port=0 \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --client-ca-file="$pki/ca.crt" --authorization-mode=Node,RBAC --allow-privileged=true \
        --service-cluster-ip-range="$service_range" --endpoint-reconciler-type=master-count \
        --service-account-key-file="$pki/service-accounts.pub" \
        --service-account-signing-key-file="$pki/service-accounts.key" \
        --service-account-issuer=https://kubernetes.default.svc \
        --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
        --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP,Hostname \
        --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy-client \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy-client.crt" \
        --proxy-client-key-file="$pki/front-proxy-client.key"
    wait_for_daemon apiserver 60 is_ready "$api_url"
}

# The API server 1.20 drops x-kubernetes-validations in silence. This one, of 1.36, enforces them; the
# API server hands the requests for our group to it (crds.sh). Its two admission plugins that are
# switched off would watch kinds that 1.20 does not have, and never get ready.
start_crd_server() {
    start_daemon crd-server "$KUBE_BIN/apiextensions-apiserver" \
        --etcd-servers="$etcd_url" --etcd-prefix=/registry/crd-server \
        --bind-address=127.0.0.1 --secure-port=7443 --client-ca-file="$pki/ca.crt" \
        --tls-cert-file="$pki/crd-server.crt" --tls-private-key-file="$pki/crd-server.key" \
        --kubeconfig="$pki/crd-server-client.kubeconfig" \
        --authentication-kubeconfig="$pki/crd-server-client.kubeconfig" \
        --authorization-kubeconfig="$pki/crd-server-client.kubeconfig" \
        --enable-priority-and-fairness=false \
        --disable-admission-plugins=ValidatingAdmissionPolicy,MutatingAdmissionPolicy
    wait_for_daemon crd-server 60 is_ready "$crd_url"
}
