# shellcheck shell=bash
# Sourced by hack/images: the files of the VM pod. QEMU and what it loads are this machine's own, from
# Debian's packages; the kernel and the guest are those of the tests (make guests).

install_vm_packages() { install_missing qemu-system-x86 seabios ipxe-qemu gcc libc6-dev; }

# make_vm_context <directory>: the build context of tests/vm-pod/Dockerfile
make_vm_context() {
    local context=$1 root=$1/rootfs qemu=/usr/bin/qemu-system-x86_64 file
    local deps=${BGSNAP_DEPS:-$repo/out/deps} modules=/usr/lib/x86_64-linux-gnu/qemu
    install_vm_packages
    for file in "$deps/vmlinuz" "$repo/out/guests/initramfs.cpio"; do
        [[ -s $file ]] || die "$file is missing" "make guests"
    done

    rm -rf "$context"
    mkdir -p "$root"/{dev,proc,sys,etc,tmp,vm,run} "$root/usr/share/qemu" "$context/run-vm"
    chmod 1777 "$root/tmp"
    echo 'qemu:x:107:107::/:/sbin/nologin' >"$root/etc/passwd"
    echo 'qemu:x:107:' >"$root/etc/group"
    cp "$deps/vmlinuz" "$repo/out/guests/initramfs.cpio" "$root/vm/"
    gcc -O2 -Wall -Wextra -Werror -static -s -o "$root/start-vm" "$repo/tests/vm-pod/start-vm.c"

    copy_with_libraries "$root" "$qemu" "$modules/accel-tcg-x86_64.so"
    # BIOSes, option ROMs of -kernel and of the network card, and every display's VGA BIOS.
    for file in bios-256k.bin bios.bin kvmvapic.bin linuxboot.bin linuxboot_dma.bin efi-virtio.rom vgabios*.bin; do
        copy_firmware "$root" "$file"
    done
}

# copy_with_libraries <root> <file>...: at the same paths, with every library they are linked with
copy_with_libraries() {
    local root=$1 file
    shift
    {
        printf '%s\n' "$@"
        ldd "$@" | grep -oE '/[^ :]+\.so[^ :]*' | grep -v '^/usr/lib/x86_64-linux-gnu/qemu/'
    } | sort -u | while read -r file; do
        install -D -m 0755 "$file" "$root$file"
    done
}

# QEMU looks for them in /usr/share/qemu and /usr/share/seabios; one place is enough.
copy_firmware() {
    local root=$1 directory file found=no
    for directory in /usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu; do
        # shellcheck disable=SC2231 # the name may be a pattern
        for file in $directory/$2; do
            [[ -e $file ]] || continue
            cp -L "$file" "$root/usr/share/qemu/"
            found=yes
        done
    done
    [[ $found == yes ]] || die "this machine's QEMU has no $2" "apt-get install qemu-system-data seabios ipxe-qemu"
}
