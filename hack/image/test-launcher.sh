# shellcheck shell=bash
# Sourced by hack/images: the files of a pod like KubeVirt's launcher. libvirt and QEMU are those that hack/deps unpacks
# for the tests, what they load beside them is this machine's own; the kernel and the guest are those of the tests.

# Of the test's start script.
launcher_tools=(/bin/sh /bin/sleep /bin/mkdir /bin/sed /bin/ln /usr/bin/truncate /usr/bin/tail)

# make_launcher_context <directory>: the build context of tests/launcher-pod/Dockerfile
make_launcher_context() {
    local context=$1 root=$1/rootfs deps=${BGSNAP_DEPS:-$repo/out/deps} lib=usr/lib/x86_64-linux-gnu file
    for file in "$deps/libvirt/usr/sbin/libvirtd" "$deps/qemu-10/usr/bin/qemu-system-x86_64" "$deps/vmlinuz"; do
        [[ -s $file ]] || die "$file is missing" "hack/deps"
    done
    [[ -s $repo/out/guests/initramfs.cpio ]] || die "out/guests/initramfs.cpio is missing" "make guests"
    install_missing seabios ipxe-qemu

    rm -rf "$context"
    mkdir -p "$root"/{dev,proc,sys,etc,tmp,vm,run,var} "$root/usr/bin" "$root/usr/sbin" "$root/usr/share/qemu" "$root/$lib"
    chmod 1777 "$root/tmp"
    # As in the real one: for who follows it from outside it leads to the host's.
    ln -s /run "$root/var/run"
    printf 'root:x:0:0:root:/:/sbin/nologin\nqemu:x:107:107::/run:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\nqemu:x:107:\n' >"$root/etc/group"
    cp "$deps/vmlinuz" "$repo/out/guests/initramfs.cpio" "$root/vm/"
    cp "$repo/tests/launcher-pod/start-launcher" "$repo/tests/launcher-pod/domain.xml" "$root/"

    cp "$deps/libvirt/usr/sbin/libvirtd" "$root/usr/sbin/"
    cp "$deps/libvirt/usr/bin/virsh" "$deps/qemu-10/usr/bin/qemu-system-x86_64" "$root/usr/bin/"
    cp -a "$deps/libvirt/$lib/." "$root/$lib/"
    cp -a "$deps/qemu-10/$lib/." "$root/$lib/"
    mkdir -p "$root/usr/share/libvirt"
    cp -a "$deps/libvirt/usr/share/libvirt/cpu_map" "$root/usr/share/libvirt/"
    for file in kvmvapic.bin linuxboot.bin linuxboot_dma.bin; do cp "$deps/qemu-10/usr/share/qemu/$file" "$root/usr/share/qemu/"; done
    cp -L "$deps"/qemu-10/usr/share/seabios/{bios-256k,bios,vgabios-stdvga}.bin "$root/usr/share/qemu/"
    copy_firmware "$root" efi-virtio.rom

    copy_libraries "$root" "$root/usr/sbin/libvirtd" "$root/usr/bin/virsh" "$root/usr/bin/qemu-system-x86_64" \
        "$root/$lib/libvirt/connection-driver/libvirt_driver_qemu.so" "${launcher_tools[@]}"
    for file in "${launcher_tools[@]}"; do install -D -m 0755 "$(readlink -f "$file")" "$root$file"; done
}

# copy_libraries <root> <program>...: those of this machine, beside those that are there
copy_libraries() {
    local root=$1 file
    shift
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu ldd "$@" | grep -oE '/[^ :]+\.so[^ :]*' | grep -vF "$root/" | sort -u |
        while read -r file; do install -D -m 0755 "$file" "$root$file"; done
}
