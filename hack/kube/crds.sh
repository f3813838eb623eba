# shellcheck shell=bash
# Sourced by hack/cluster: custom resources served by the 1.36 server through the API server.
#
# An APIService tells the API server to hand a group's requests on. It must name a Service; this one is
# an alias of localhost, where the CRD server listens. To kubectl, clients, RBAC and watches it is one API.

# serve_crds <file>...: one CustomResourceDefinition in each
serve_crds() {
    local file
    for file in "$@"; do
        [[ -r $file ]] || die "$file cannot be read"
        # Beside the definitions, and so in what a shell makes of config/crd/*.yaml.
        [[ ${file##*/} != kustomization.yaml ]] || continue
        serve_crd "$file"
    done
}

serve_crd() {
    local file=$1 crd group version versions
    crd=$(field_of "$file" '{.metadata.name}')
    group=$(field_of "$file" '{.spec.group}')
    versions=$(field_of "$file" '{.spec.versions[*].name}')
    apply_crd "$crd" "$file"
    # Discovery lists a definition once it is established.
    for version in $versions; do
        wait_for_daemon crd-server 20 lists_resource "$crd_url" "$group" "$version" "${crd%%.*}"
        register_group "$group" "$version"
        wait_for_daemon apiserver 30 lists_resource "$api_url" "$group" "$version" "${crd%%.*}"
    done
    describe_crd "$file" "$group"
    say "$crd ($versions) is served by the 1.36 CRD server"
}

# field_of <file> <JSONPath>: kubectl reads the YAML; nothing is created
field_of() {
    kubectl create --dry-run=client --validate=false -f "$1" -o "jsonpath=$2" ||
        die "$1 is no CustomResourceDefinition"
}

# The CRD server is no full API server, and kubectl does not speak to it. Server-side apply makes a
# definition or brings it up to date, whichever is needed.
apply_crd() {
    local crd=$1 file=$2 answer
    answer=$(as_admin --fail-with-body -X PATCH -H 'Content-Type: application/apply-patch+yaml' \
        --data-binary "@$file" "$crd_definitions/$crd?fieldManager=hack-cluster&force=true" 2>/dev/null) ||
        die "the CRD server refused $file: $(message_of "${answer:-no answer}")"
}

crd_definitions=$crd_url/apis/apiextensions.k8s.io/v1/customresourcedefinitions

# The readable part of a Status object, without JSON's escapes.
message_of() {
    local message
    message=$(sed -n 's/^ *"message": "\(.*\)",\?$/\1/p' <<<"$1" | head -n 1)
    printf '%b\n' "${message:-$1}" | sed 's/\\"/"/g'
}

# lists_resource <server> <group> <version> <plural name>
lists_resource() { as_admin -f "$1/apis/$2/$3" | grep -q "\"name\": *\"$4\""; }

# register_group <group> <version>: not managed by the API server, or it would take the group back as soon as
# it is told of the definition itself (describe_crd).
register_group() {
    local group=$1 version=$2
    kubectl apply -f - >/dev/null <<OBJECTS
apiVersion: v1
kind: Service
metadata: { name: crd-server, namespace: kube-system }
spec:
  type: ExternalName
  externalName: localhost
  ports: [{ port: 7443, protocol: TCP }]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata:
  name: $version.$group
  labels: { kube-aggregator.kubernetes.io/automanaged: "false" }
spec:
  group: $group
  version: $version
  groupPriorityMinimum: 1000
  versionPriority: 15
  caBundle: $(base64 -w 0 "$pki/ca.crt")
  service: { name: crd-server, namespace: kube-system, port: 7443 }
OBJECTS
}

# The CRD server publishes no OpenAPI. The API server is given the definition too, for `kubectl explain`,
# `kubectl get crd` and the client's validation; it serves none of the objects. Applied by the client: a
# server-side apply would refuse the fields that 1.20 does not know. An empty default it takes for null.
describe_crd() {
    local file=$1 group=$2 kind
    kind=$(field_of "$file" '{.spec.names.kind}')
    mkdir -p "$described"
    sed '/^ *default: ""$/d' "$file" >"$described/${file##*/}"
    if kubectl apply --validate=false -f "$described/${file##*/}" >/dev/null; then
        wait_for_daemon apiserver 30 describes "$group" "$kind"
    else
        say "warning: the API server 1.20 does not take $file; kubectl explain will not know $kind" >&2
    fi
}

describes() { kubectl get --raw /openapi/v2 | grep -q "\"group\": *\"$1\", *\"kind\": *\"$2\""; }

# While the API server starts, it serves a definition that it knows itself, from its own, empty store, until it has
# learnt of the APIService: a watch begun then would never hear of anything. So it must not know any when it stops.
forget_descriptions() {
    [[ ! -d $described ]] || kubectl delete --ignore-not-found -f "$described" >/dev/null
}

describe_again() {
    [[ ! -d $described ]] || kubectl apply --validate=false -f "$described" >/dev/null
}
