# shellcheck shell=bash
# Sourced by hack/cluster: custom resources served by the 1.36 server through the API server.
#
# An APIService tells the API server to hand a group's requests on. It must name a Service; this one is
# an alias of localhost, where the CRD server listens. To kubectl, clients, RBAC and watches it is one API.

serve_crds() {
    local file names name
    for file in "$@"; do
        [[ -r $file ]] || die "$file cannot be read"
        # Server-side apply makes a definition or brings it up to date, whichever is needed.
        names=$(at_crd_server apply --server-side --force-conflicts --field-manager=hack-cluster \
            --validate=false -f "$file" -o name) || die "the CRD server refused $file; its reason is above"
        for name in $names; do serve_crd "${name#*/}"; done
    done
}

at_crd_server() { kubectl --server="$crd_url" "$@"; }

serve_crd() {
    local crd=$1 group version versions
    group=$(at_crd_server get crd "$crd" -o 'jsonpath={.spec.group}')
    read -ra versions < <(at_crd_server get crd "$crd" -o 'jsonpath={.spec.versions[*].name}' && echo)
    at_crd_server wait crd "$crd" --for=condition=Established --timeout=20s >/dev/null ||
        die "$crd was not established" "kubectl --server=$crd_url describe crd $crd says why"
    register_group "$group" "${versions[@]}"
    for version in "${versions[@]}"; do
        wait_for_daemon apiserver 30 lists_resource "$group" "$version" "${crd%%.*}"
    done
    say "$crd (${versions[*]}): served by the 1.36 CRD server"
}

lists_resource() { kubectl get --raw "/apis/$1/$2" | grep -q "\"name\":\"$3\""; }

register_group() {
    local group=$1 version
    shift
    kubectl apply -f - >/dev/null <<SERVICE
apiVersion: v1
kind: Service
metadata: { name: crd-server, namespace: kube-system }
spec:
  type: ExternalName
  externalName: localhost
  ports: [{ port: 7443 }]
SERVICE
    for version in "$@"; do
        kubectl apply -f - >/dev/null <<APISERVICE
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: { name: $version.$group }
spec:
  group: $group
  version: $version
  groupPriorityMinimum: 1000
  versionPriority: 15
  caBundle: $(base64 -w 0 "$pki/ca.crt")
  service: { name: crd-server, namespace: kube-system, port: 7443 }
APISERVICE
    done
}
