# shellcheck shell=bash
# Sourced by hack/images: whether an image has to be made again.

# inputs <target>: a checksum over all that goes into its image
inputs() {
    local deps=${BGSNAP_DEPS:-$repo/out/deps}
    case $1 in
        test-vm)
            # QEMU and its firmware are the machine's own.
            dpkg-query -W -f '${Package} ${Version}\n' qemu-system-x86 seabios ipxe-qemu
            checksums hack/image/test-vm.sh tests/vm-pod "$deps/vmlinuz" out/guests/initramfs.cpio
            ;;
        test-launcher)
            checksums hack/image/test-launcher.sh tests/launcher-pod "$deps/libvirt" "$deps/qemu-10/usr/bin" "$deps/vmlinuz" out/guests/initramfs.cpio
            ;;
        *)
            printf '%s\n' "$version" "$pull" "$(dotnet --version 2>/dev/null || true)"
            checksums hack/image/bases.sh "Dockerfile.$1" .dockerignore .editorconfig global.json LICENSE \
                Directory.Build.props Directory.Packages.props hack/deps hack/lib src
            ;;
    esac | sha256sum | cut -d ' ' -f 1
}

# checksums <file or directory>...: what .NET has built among the sources does not count
checksums() {
    (cd "$repo" && (find "$@" -type f -not -path '*/bin/*' -not -path '*/obj/*' -print0 2>/dev/null || true) |
        LC_ALL=C sort -z | xargs -0 sha256sum)
}

is_up_to_date() {
    [[ $1 != agent || -x $images/bgsnap-agent ]] || return 1
    [[ -s $images/$1.tar && $(cat "$images/$1.inputs" 2>/dev/null) == "${inputs_of_target[$1]}" ]]
}
