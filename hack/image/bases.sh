# shellcheck shell=bash
# Sourced by hack/images: stand-ins for the base images that a Dockerfile names, where no registry can be
# reached. They are made from Debian 12's packages and this machine's .NET, tagged with the very name in
# FROM, and kept in the engine's data. With --pull the engine pulls the real ones instead.

dotnet_root() { dirname "$(readlink -f "$(command -v dotnet)")"; }

# make_bases <Dockerfile>...
make_bases() {
    local name names
    mapfile -t names < <(sed -n 's/^FROM \(--[^ ]* \)*\([^ ]*\).*/\2/p' "$@" | grep -vx scratch | sort -u)
    for name in "${names[@]}"; do
        # One that an older version of this file made may lack what a Dockerfile takes from it by now.
        if [[ $(docker image inspect --format '{{index .Config.Labels "bgsnap.stand-in"}}' "$name" 2>/dev/null) == "$(stand_in_mark)" ]]; then continue; fi
        step "making a stand-in for $name" make_base "$name"
    done
}

make_base() {
    local name=$1
    case $name in
        */dotnet/sdk:*) sdk_rootfs | import_base "$name" --change "ENV PATH=$sdk_path ${sdk_environment[*]}" ;;
        */dotnet/aspnet:*-chiseled) aspnet_rootfs | import_base "$name" --change 'USER 1654' ;;
        */dotnet/runtime-deps:*-chiseled) libraries_rootfs | import_base "$name" --change 'USER 1654' ;;
        *) die "there is no stand-in for $name" "hack/images --pull takes it from its registry" ;;
    esac
}

# There is no ICU in it: it does without, and knows no culture but the invariant one by heart.
sdk_environment=(
    DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_SYSTEM_GLOBALIZATION_PREDEFINED_CULTURES_ONLY=false
    DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
    "NUGET_CERT_REVOCATION_MODE=${NUGET_CERT_REVOCATION_MODE:-online}"
)
sdk_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/share/dotnet

stand_in_mark() { sha256sum "$repo/hack/image/bases.sh" | cut -c 1-16; }

import_base() {
    local name=$1
    shift
    docker import --change "LABEL bgsnap.stand-in=$(stand_in_mark)" "$@" - "$name" >/dev/null
}

# --- the SDK: Debian with what hack/deps --build-only asks for, and dotnet --------------------------------

sdk_rootfs() {
    command -v dotnet >/dev/null || die "no dotnet on the PATH" "the SDK that global.json names is needed"
    install_missing mmdebstrap debian-archive-keyring ca-certificates >&2
    local root
    root=$(dotnet_root)
    # The hooks are run by a shell of mmdebstrap's, which gives them the root directory as $1.
    # shellcheck disable=SC2016
    local certificates='cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"' \
        tidy='rm -rf "$1"/var/cache/apt/*.bin "$1"/usr/share/doc'
    # The machine's own certificates: its package registry may have one that only this machine trusts.
    mmdebstrap --quiet --mode=root --variant=apt \
        --include=ca-certificates,gcc,libc6-dev,make,zlib1g-dev,libzstd-dev,liblz4-dev,libssl3,tzdata \
        --customize-hook="mkdir -p \"\$1$root\" \"\$1/usr/share\"" \
        --customize-hook="tar -C '$root' -c . | tar -C \"\$1$root\" -x" \
        --customize-hook="[ '$root' = /usr/share/dotnet ] || ln -s '$root' \"\$1/usr/share/dotnet\"" \
        --customize-hook="$certificates" --customize-hook="$tidy" \
        bookworm - "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) bookworm main"
}

# --- the chiseled ones: libraries alone ---------------------------------------------------------------

# What the real ones hold too: libc, libgcc, libstdc++, OpenSSL, zlib.
chiseled_packages=(libc6 libgcc-s1 libstdc++6 libssl3 zlib1g)

libraries_rootfs() { in_scratch fill_libraries; }
aspnet_rootfs() { in_scratch fill_aspnet; }

# in_scratch <function>: lets it fill a directory, and writes that as a tar to stdout
in_scratch() {
    local root
    root=$(mktemp -d)
    "$1" "$root" >&2
    tar -C "$root" --numeric-owner --owner=0 --group=0 -c .
    rm -rf "$root"
}

fill_libraries() {
    local root=$1 debs deb
    debs=$(mktemp -d)
    # As in a merged /usr: packages of Debian 12 still hold /lib.
    mkdir -p "$root"/usr/{lib,lib64,bin,sbin} "$root"/{etc,home/app,proc,sys,dev,run,var/tmp}
    mkdir -m 1777 "$root/tmp"
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"
    (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download "${chiseled_packages[@]}" >/dev/null)
    for deb in "$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" --keep-directory-symlink -x
    done
    rm -rf "$debs" "$root"/usr/share/{doc,lintian,gdb,locale} "$root"/usr/lib/*/gconv "${root:?}"/usr/{bin,sbin}/*
    printf 'root:x:0:0::/root:/sbin/nologin\napp:x:1654:1654::/home/app:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\napp:x:1654:\n' >"$root/etc/group"
}

fill_aspnet() {
    local root=$1 from framework version
    fill_libraries "$root"
    from=$(dotnet_root)
    for framework in Microsoft.NETCore.App Microsoft.AspNetCore.App; do
        version=$(runtime_version "$framework")
        mkdir -p "$root/usr/share/dotnet/shared/$framework"
        cp -a "$from/shared/$framework/$version" "$root/usr/share/dotnet/shared/$framework/"
    done
    cp -a "$from/dotnet" "$from/host" "$root/usr/share/dotnet/"
    ln -s ../share/dotnet/dotnet "$root/usr/bin/dotnet"
}

# runtime_version <framework>
runtime_version() {
    dotnet --list-runtimes | awk -v framework="$1" '$1 == framework { print $2 }' | sort -V | tail -n 1
}
