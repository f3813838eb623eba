/*
 * The first process of the VM pod: makes QEMU's command line from the environment and becomes QEMU, so
 * that QEMU is PID 1, gets the kubelet's signals, and the guest's serial console is the pod's log.
 *
 *   VM_NAME      the name in `-name guest=`; the pod's name unless set
 *   VM_MEMORY    guest RAM, 256M
 *   VM_CPUS      1
 *   VM_DISKS     paths of raw images, with commas between them: the guest's disks vda, vdb and so on. A path
 *                that is not there yet becomes an empty disk of VM_DISK_MIB, 16
 *   VM_INCOMING  what `-incoming` gets: `defer` to wait for a restore; unset: the guest boots
 *   VM_GUEST     words for the guest (tests/guests/init.c): bgsnap.mode=count bgsnap.mib=64
 *
 * Arguments of the container are handed to QEMU after all of ours.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QEMU "/usr/bin/qemu-system-x86_64"
#define QMP "unix:/run/vm/qmp.sock,server=on,wait=off"
#define USER_QEMU 107
#define MAX_DISKS 26

/* Fast to boot under TCG, and quiet: the log is the guest's own lines. */
#define KERNEL                                                                                     \
    "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off cryptomgr.notests ipv6.disable=1 "    \
    "i8042.noaux i8042.nokbd 8250.nr_uarts=1 no_timer_check tsc=reliable random.trust_cpu=on "

static const char *from_environment(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static char *joined(const char *head, const char *tail, const char *end)
{
    char *text;
    if (asprintf(&text, "%s%s%s", head, tail, end) < 0)
        abort();
    return text;
}

static void fail(const char *what)
{
    fprintf(stderr, "start-vm: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Started as root (without runAsUser) it still ends up as the user that QEMU has under libvirt. */
static void become_qemu_user(void)
{
    if (geteuid() != 0)
        return;
    if (chown("/run/vm", USER_QEMU, USER_QEMU) != 0 || setgroups(0, NULL) != 0 || setgid(USER_QEMU) != 0 ||
        setuid(USER_QEMU) != 0)
        fail("cannot become uid 107");
}

/* A disk that was restored, or used before, is there and stays as it is. */
static void make_disk(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
    if (fd < 0 && errno == EEXIST)
        return;
    if (fd < 0 || ftruncate(fd, atol(from_environment("VM_DISK_MIB", "16")) << 20) != 0)
        fail(path);
    close(fd);
}

/* Adds the words for each disk; the drive's id is its name in a snapshot. */
static size_t add_disks(const char **command, size_t at, char *paths)
{
    char name = 'a';
    for (char *path = strtok(paths, ","); path && name < 'a' + MAX_DISKS; path = strtok(NULL, ","), name++) {
        char *drive, *device;
        make_disk(path);
        if (asprintf(&drive, "file=%s,format=raw,if=none,id=vd%c", path, name) < 0 ||
            asprintf(&device, "virtio-blk-pci,drive=vd%c", name) < 0)
            abort();
        command[at++] = "-drive";
        command[at++] = drive;
        command[at++] = "-device";
        command[at++] = device;
    }
    return at;
}

int main(int count, char **arguments)
{
    char host[256] = "vm";
    gethostname(host, sizeof host - 1);
    const char *incoming = getenv("VM_INCOMING");

    const char *fixed[] = {
        QEMU,
        "-name", joined("guest=", from_environment("VM_NAME", host), ",debug-threads=on"),
        /* The sandbox that libvirt gives every QEMU. */
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "pc", "-accel", "tcg",
        "-m", from_environment("VM_MEMORY", "256M"),
        "-smp", from_environment("VM_CPUS", "1"),
        "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
        "-qmp", QMP,
        "-kernel", "/vm/vmlinuz", "-initrd", "/vm/initramfs.cpio",
        "-append", joined(KERNEL, from_environment("VM_GUEST", "bgsnap.mode=count bgsnap.mib=64"), ""),
    };
    size_t fixed_count = sizeof fixed / sizeof *fixed, at = 0;
    const char **command = calloc(fixed_count + 4 * MAX_DISKS + 2 + (size_t)count + 1, sizeof *command);
    if (!command)
        abort();
    for (; at < fixed_count; at++)
        command[at] = fixed[at];
    become_qemu_user();
    at = add_disks(command, at, strdup(from_environment("VM_DISKS", "")));
    if (incoming && *incoming) {
        command[at++] = "-incoming";
        command[at++] = incoming;
    }
    for (int i = 1; i < count; i++)
        command[at++] = arguments[i];

    execv(QEMU, (char *const *)command);
    fail("cannot start " QEMU);
}
