# shellcheck shell=bash
# Sourced: a container image of one layer, made without any container engine.
#
#   make_docker_archive <name:tag> <root directory> <entrypoint, a JSON list> <file to write>
make_docker_archive() {
    local name=$1 root=$2 entrypoint=$3 file=$4 work layer
    work=$(mktemp -d)
    tar -C "$root" --numeric-owner --owner=0 --group=0 -cf "$work/layer.tar" .
    layer=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
    cat >"$work/config.json" <<CONFIG
{
  "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
  "config": { "Entrypoint": $entrypoint },
  "rootfs": { "type": "layers", "diff_ids": ["sha256:$layer"] },
  "history": [{ "created": "2024-01-01T00:00:00Z" }]
}
CONFIG
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$name" >"$work/manifest.json"
    tar -C "$work" -cf "$file" manifest.json config.json layer.tar
    rm -rf "$work"
}
