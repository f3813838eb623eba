# shellcheck shell=bash
# Sourced, after messages.sh and packages.sh: a package of the npm registry as the file it is there.

# fetch_npm_package <name> <version> <SHA-256> <directory>: leaves package.tgz in the directory.
#
# npm knows the registry of the machine. A machine without npm gets it, unless npm's own variable names a registry for curl.
fetch_npm_package() {
    local name=$1 version=$2 sum=$3 directory=$4
    if command -v npm >/dev/null || [[ -z ${npm_config_registry:-} ]]; then
        install_commands npm=npm
        (cd "$directory" && npm pack --ignore-scripts --silent "$name@$version" >/dev/null && mv ./*.tgz package.tgz) ||
            die "npm could not fetch $name@$version" "npm pack $name@$version shows why"
    else
        install_commands curl=curl
        curl -fsSL --retry 3 -o "$directory/package.tgz" "${npm_config_registry%/}/$name/-/${name#*/}-$version.tgz" ||
            die "$name $version could not be fetched" "set npm_config_registry to a registry that this machine reaches"
    fi
    sha256sum --quiet --check - <<<"$sum  $directory/package.tgz" >&2 ||
        die "the registry's $name $version is not the one that was reviewed" "its SHA-256 must be $sum"
}
