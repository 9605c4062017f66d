#!/bin/sh
# qemu-aarch64 for the kernels' tests: the one that is there, else Debian's own, if root may install it.
set -eu

found() {
    command -v qemu-aarch64
}

if found >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing Debian's qemu-user"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if { apt-get update -qq && apt-get install -y -qq --no-install-recommends qemu-user; } >"$log" 2>&1 && found >/dev/null; then
        rm -f "$log"
        exit 0
    fi
    tail -n 5 "$log" >&2
    rm -f "$log"
fi
echo "there is no qemu-aarch64 here, and it cannot be installed: install the package qemu-user" >&2
exit 1
