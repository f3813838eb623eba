# shellcheck shell=bash
# Sourced by the scripts of hack/, after they have set `program`: messages in one form.

say() { printf '%s: %s\n' "${program:?}" "$*"; }

# die <message> [<remedy>...]
die() {
    printf '%s: error: %s\n' "${program:?}" "$1" >&2
    shift
    local remedy
    for remedy in "$@"; do printf '%s:   %s\n' "$program" "$remedy" >&2; done
    exit 1
}
