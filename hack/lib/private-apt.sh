# shellcheck shell=bash
# Sourced, after messages.sh: an apt of our own below a directory, with its own sources, lists and
# archives. Packages of other Debian suites are downloaded with it and unpacked; the machine's own
# configuration is left alone.
#
#   use_private_apt <directory> <"deb SUITE" or "deb-src SUITE">...   then "${private_apt[@]}" apt-get ...

# The command prefix that makes apt-get and apt-cache use the private configuration.
private_apt=()

# main_of <filter>...: the URI of the first source with a component main that apt's filters let pass
main_of() {
    # shellcheck disable=SC2016 # the field is apt's, not the shell's
    apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Component: main' "$@" 2>/dev/null | head -n 1
}

# The URI from which this machine takes Debian 12.
debian_mirror() {
    local mirror
    mirror=$(main_of 'Origin: Debian' 'Codename: bookworm')
    # Before the first apt-get update, apt knows neither origin nor codename.
    [[ -n $mirror ]] || mirror=$(main_of 'Release: bookworm')
    [[ -n $mirror ]] || die "the machine's apt sources name no Debian 12 (bookworm main)" \
        "add it to /etc/apt/sources.list.d, run apt-get update, and start again"
    printf '%s\n' "$mirror"
}

use_private_apt() {
    local directory=$1 mirror line options='' keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift
    mirror=$(debian_mirror)
    [[ -r $keyring ]] && options="[signed-by=$keyring] "

    mkdir -p "$directory"/{lists/partial,archives/partial,none}
    for line in "$@"; do printf '%s %s%s %s main\n' "${line% *}" "$options" "$mirror" "${line#* }"; done \
        >"$directory/sources.list"
    cat >"$directory/apt.conf" <<CONF
Dir::Etc::SourceList "$directory/sources.list";
Dir::Etc::SourceParts "$directory/none";
Dir::Etc::Preferences "$directory/none/preferences";
Dir::Etc::PreferencesParts "$directory/none";
Dir::State::Lists "$directory/lists";
Dir::Cache "$directory";
Dir::Cache::Archives "$directory/archives";
APT::Keep-Downloaded-Packages "true";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Debug::NoLocking "true";
CONF
    private_apt=(env "APT_CONFIG=$directory/apt.conf")
    say "reading the package lists of $mirror: ${*}"
    "${private_apt[@]}" apt-get -qq update || die "these package lists could not be read: $*" \
        "the mirror $mirror must carry them"
}

# fetch_debs <directory> <package>...: downloads just these packages, without their dependencies.
fetch_debs() {
    local directory=$1
    shift
    mkdir -p "$directory"
    (cd "$directory" && "${private_apt[@]}" apt-get -qq download "$@" >/dev/null) ||
        die "apt-get could not fetch: $*" "see its message above"
}
