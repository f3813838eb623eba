# shellcheck shell=bash
# Sourced, after messages.sh: packages of the system, each installed only when it is missing.

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

install_missing() {
    local package missing=()
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    if ((${#missing[@]} == 0)); then return; fi
    if ((EUID != 0)); then
        die "these packages are missing, and only root can install them: ${missing[*]}" \
            "run this script as root, or: sudo apt-get install --no-install-recommends ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    # One of our scripts at a time: apt's own lock does not wait while it reads its lists.
    local lock
    exec {lock}>/run/lock/bgsnap-packages
    flock "$lock"
    export DEBIAN_FRONTEND=noninteractive
    # Another apt may be at work: a machine that was just started updates itself.
    local install=(apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}")
    # Package lists that are absent or old are the usual reason; fetch them only then.
    if ! "${install[@]}" >/dev/null 2>&1; then
        apt-get update -qq || die "apt-get update failed" "check the machine's apt sources and its network"
        "${install[@]}" >/dev/null || die "apt-get could not install: ${missing[*]}" \
            "see its message above; the machine's apt sources must hold Debian 12 main"
    fi
    exec {lock}>&-
}

# install_commands <command>=<package>...: for programs that may also come from elsewhere than Debian.
install_commands() {
    local pair packages=()
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
    done
    install_missing "${packages[@]}"
}
