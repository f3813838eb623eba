# shellcheck shell=bash
# Sourced by hack/cluster: the cluster's own certificate authority, a certificate for each component,
# and the kubeconfigs. They live as long as the cluster, a year at most.

make_certificates() {
    mkdir -p "$pki"
    chmod 700 "$pki"
    openssl req -x509 "${new_key[@]}" -days 365 -subj /CN=bgsnap-cluster -keyout "$pki/ca.key" -out "$pki/ca.crt" \
        2>/dev/null

    certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default" \
        "DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$node_address,IP:$api_service_address"
    certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    certificate front-proxy-client /CN=front-proxy-client
    # Known to the API server as a service that is named by localhost (crds.sh).
    certificate crd-server /CN=crd-server "DNS:crd-server.kube-system.svc,DNS:localhost,IP:127.0.0.1"
    certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:127.0.0.1,IP:$node_address"

    certificate admin /O=system:masters/CN=admin
    certificate crd-server-client /O=system:masters/CN=crd-server
    certificate controller-manager /CN=system:kube-controller-manager
    certificate scheduler /CN=system:kube-scheduler
    certificate kube-proxy /CN=system:kube-proxy
    local user
    for user in admin crd-server-client controller-manager scheduler kubelet kube-proxy; do kubeconfig "$user"; done

    # Signs the tokens of service accounts.
    openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-accounts.key"
    openssl ec -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub" 2>/dev/null
}

new_key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

# certificate <file> <subject> [<alternative names, comma-separated>...]
certificate() {
    local file=$pki/$1 subject=$2 names
    shift 2
    names=$(IFS=,; printf '%s' "$*")
    openssl req "${new_key[@]}" -subj "$subject" -keyout "$file.key" -out "$file.csr" 2>/dev/null
    {
        printf 'keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n'
        [[ -z $names ]] || printf 'subjectAltName=%s\n' "$names"
    } >"$file.ext"
    openssl x509 -req -in "$file.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 365 \
        -extfile "$file.ext" -out "$file.crt" 2>/dev/null
    rm "$file.csr" "$file.ext"
}

# Certificates by content, not by path, so that the file can be copied elsewhere.
kubeconfig() {
    local user=$1
    (
        umask 077
        cat >"$pki/$user.kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
current-context: bgsnap-cluster
contexts:
- name: bgsnap-cluster
  context: { cluster: bgsnap-cluster, user: $user }
clusters:
- name: bgsnap-cluster
  cluster:
    server: $api_url
    certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")
users:
- name: $user
  user:
    client-certificate-data: $(base64 -w 0 "$pki/$user.crt")
    client-key-data: $(base64 -w 0 "$pki/$user.key")
CONFIG
    )
}
