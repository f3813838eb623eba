/* Drivers and disks. Debian's cloud kernel has ext4 built in, and drivers as modules. */
#define _GNU_SOURCE
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In an order in which each finds what it needs. */
static const char *const virtio_modules[] = {
    "virtio", "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
    "virtio_console", "scsi_common", "scsi_mod", "sd_mod", "virtio_scsi", NULL,
};
static const char *const balloon_modules[] = {"virtio", "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_balloon", NULL};
static const char *const ide_modules[] = {"libata", "ata_piix", NULL};

static void load(const char *const *modules)
{
    for (; *modules; modules++) {
        char path[64];
        snprintf(path, sizeof path, "/modules/%s.ko", *modules);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue; /* whoever needs it will say that its device is not there */
        if (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST && errno != ENOENT)
            say("module=%s errno=%d", *modules, errno);
        close(fd);
    }
}

void give_to_balloon(void) { load(balloon_modules); }

static long read_number(const char *block, const char *file)
{
    char path[320], text[32] = "";
    snprintf(path, sizeof path, "/sys/block/%s/%s", block, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        text[0] = 0;
    if (fd >= 0)
        close(fd);
    return strtol(text, NULL, 10);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The disks that can be written to, in the order of their names. */
static unsigned list_disks(char *names[MAX_DISKS])
{
    unsigned found = 0;
    DIR *all = opendir("/sys/block");
    for (struct dirent *entry; all && (entry = readdir(all)) != NULL;) {
        if (strncmp(entry->d_name, "vd", 2) != 0 && strncmp(entry->d_name, "sd", 2) != 0)
            continue;
        if (found < MAX_DISKS && read_number(entry->d_name, "ro") == 0 && read_number(entry->d_name, "size") > 0)
            names[found++] = strdup(entry->d_name);
    }
    if (all)
        closedir(all);
    qsort(names, found, sizeof *names, by_name);
    return found;
}

static unsigned wait_for(unsigned wanted, char *names[MAX_DISKS], unsigned tenths)
{
    unsigned found;
    while ((found = list_disks(names)) < wanted && tenths-- > 0)
        usleep(100000);
    return found;
}

void find_disks(unsigned wanted, char paths[MAX_DISKS][32])
{
    char *names[MAX_DISKS];
    load(virtio_modules);
    unsigned found = wait_for(wanted, names, 10);
    if (found < wanted) {
        /* Its empty channels take seconds: only where it is needed. */
        load(ide_modules);
        found = wait_for(wanted, names, 100);
    }
    if (found < wanted)
        die("disks-are-missing");
    for (unsigned i = 0; i < wanted; i++)
        snprintf(paths[i], sizeof paths[i], "/dev/%.26s", names[i]);
}

/* The port of a virtio-serial device by the name that QEMU's command line gave it. */
bool find_channel(const char *name, char path[64])
{
    bool found = false;
    DIR *all = opendir("/sys/class/virtio-ports");
    for (struct dirent *entry; all && !found && (entry = readdir(all)) != NULL;) {
        char file[320], text[64] = "";
        snprintf(file, sizeof file, "/sys/class/virtio-ports/%s/name", entry->d_name);
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        found = read(fd, text, sizeof text - 1) > 0 && strncmp(text, name, strlen(name)) == 0;
        close(fd);
        if (found)
            snprintf(path, 64, "/dev/%.40s", entry->d_name);
    }
    if (all)
        closedir(all);
    return found;
}
