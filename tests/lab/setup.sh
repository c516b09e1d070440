#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes this machine ready for the lab: Debian packages, and a virtual environment in .venv.
# With "environment" as its argument it leaves the packages alone, and fetches nothing else.
#
# Does nothing, in a moment, when all is there. What is cut off half-way is made anew the next time.
# Exit status 2: a package is missing and only root can install it, or no source of packages has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=/usr/bin/python3

say() {
    printf 'setup: %s\n' "$*" >&2
}

missing_packages() {
    comm -23 <(sort -u tests/lab/packages.txt) \
        <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u)
}

install_packages() {
    local -a packages
    mapfile -t packages < <(missing_packages)
    [[ ${#packages[@]} -gt 0 ]] || return 0
    local line="apt-get install --yes --no-install-recommends ${packages[*]}"
    if [[ $EUID -ne 0 ]]; then
        say "Debian packages are missing. As root, run this, then try again:"
        printf '\n    %s\n\n' "$line" >&2
        exit 2
    fi
    say "$line"
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        # The lab starts its own servers: Debian's are not started by their installation.
        # shellcheck disable=SC2064
        trap "rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get --quiet=2 update || say "apt-get update failed; trying with the lists that are here"
    if ! $line --quiet=2 -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 </dev/null >&2; then
        say "apt-get could not install them; its message is above. The lab is made for Debian 12 with" \
            "its security archive, which has clang-22, lld-22, llvm-22 and linux-source-6.12."
        exit 2
    fi
    if [[ " ${packages[*]} " == *" openssh-server "* ]] && command -v systemctl >/dev/null; then
        systemctl --quiet disable ssh.service ssh.socket >/dev/null 2>&1 || true
    fi
}

# A static busybox for guests of arm64. Debian's has the same path for each architecture, so it is not
# installed but unpacked, and apt knows of the other architecture for this one download only.
fetch_busybox() {
    local target=/var/tmp/kwatch-arm64/busybox
    [[ -e $target ]] && return 0
    local folder
    folder=$(mktemp -d)
    mkdir -p "$folder"/{lists,cache/archives,root} "${target%/*}"
    local -a apt=(apt-get --quiet=2 -o APT::Architecture=arm64 -o APT::Architectures=arm64
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache"
        -o Dir::State::status=/dev/null -o APT::Sandbox::User="$(id -un)")
    say "fetching a busybox for arm64"
    if (cd "$folder" && "${apt[@]}" update && "${apt[@]}" download busybox-static) >&2 &&
        dpkg-deb -x "$folder"/busybox-static_*_arm64.deb "$folder/root"; then
        mv "$folder/root/bin/busybox" "$target"
    else
        say "there is no busybox for arm64 to be had; tests/long/test_arm64.py and bench/channel.py need it"
    fi
    rm -rf "$folder"
}

# What the environment is made from: when it changes, so does the environment. Its scripts hold the
# path of this folder.
fingerprint() {
    {
        cat requirements-dev.txt tests/lab/setup.sh
        $PYTHON --version
        pwd
    } | sha256sum
}

make_environment() {
    local stamp=.venv/made-from wanted
    wanted=$(fingerprint)
    [[ -e $stamp && $(<"$stamp") == "$wanted" ]] && return 0
    say "making the virtual environment .venv"
    rm -rf .venv
    $PYTHON -m venv .venv
    local pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check install --no-deps)
    "${pip[@]}" --require-hashes --requirement requirements-dev.txt
    "${pip[@]}" --no-build-isolation --no-index --editable .
    .venv/bin/python -m pip check >/dev/null
    printf '%s\n' "$wanted" >$stamp
}

if [[ ${1:-} != environment ]]; then
    install_packages
    fetch_busybox
fi
# Two commands at the same time make one environment.
exec 9<requirements-dev.txt
flock 9
make_environment
