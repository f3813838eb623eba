# shellcheck shell=bash
# Sourced by hack/cluster: volumes for claims that name no StorageClass. Kubernetes' own provisioner of directories makes them for root
# alone, and pods of other users could not write there; so some directories are made beforehand, open to all.

volumes=$cluster/volumes
number_of_volumes=40

create_volumes() {
    local number
    {
        cat <<'CLASS'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: { storageclass.kubernetes.io/is-default-class: "true" }
provisioner: kubernetes.io/no-provisioner
CLASS
        for ((number = 1; number <= number_of_volumes; number++)); do
            mkdir -p "$volumes/$number"
            chmod 0777 "$volumes/$number"
            cat <<VOLUME
---
apiVersion: v1
kind: PersistentVolume
metadata: { name: standard-$number }
spec:
  storageClassName: standard
  capacity: { storage: 8Gi }
  accessModes: [ReadWriteOnce, ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  hostPath: { path: $volumes/$number }
VOLUME
        done
    } | kubectl apply -f - >/dev/null
}

# Empties the volumes whose claims are gone, and offers them again.
recycle_volumes() {
    local name
    for name in $(kubectl get pv -o 'jsonpath={range .items[?(@.status.phase=="Released")]}{.metadata.name}{"\n"}{end}'); do
        [[ $name == standard-* ]] || continue
        find "$volumes/${name#standard-}" -mindepth 1 -delete
        kubectl patch pv "$name" --type=merge -p '{"spec":{"claimRef":null}}' >/dev/null
        say "volume $name is empty and available again"
    done
}
