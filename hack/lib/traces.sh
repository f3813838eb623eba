# shellcheck shell=bash
# Sourced: directories that programs make at fixed places, removed afterwards where there was none before.

# note_absent <file> <directory>...: writes down which of them do not exist
note_absent() {
    local file=$1 directory
    shift
    for directory in "$@"; do
        [[ -e $directory ]] || printf '%s\n' "$directory"
    done >"$file"
}

# remove_traces <file>: removes those that exist by now, but never into a file system still mounted there
remove_traces() {
    local directory
    [[ -s $1 ]] || return 0
    while read -r directory; do
        ! grep -qF " $directory/" /proc/self/mountinfo || continue
        rm -rf --one-file-system "$directory"
    done <"$1"
}

# remove_empty_traces <file>: the same, as far as they are empty: other programs may use them by now
remove_empty_traces() {
    local directory
    [[ -s $1 ]] || return 0
    while read -r directory; do
        find "$directory" -depth -type d -empty -delete 2>/dev/null || true
    done <"$1"
}

# unmount_below <directory>...
unmount_below() {
    local directory path
    for directory in "$@"; do
        mounts_below "$directory" | sort -r | while read -r path; do umount -l "$path" 2>/dev/null || true; done
    done
}

mounts_below() { awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo; }

# remove_control_groups <pattern of a path>: those without processes; the kernel refuses all others
remove_control_groups() { find /sys/fs/cgroup -depth -type d -path "$1" -exec rmdir {} + 2>/dev/null || true; }
