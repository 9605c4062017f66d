#!/bin/sh
# Chromium for the console's tests: the one that is there (or that CHROMIUM names), else Debian's own, if root may install it.
set -eu

found() {
    command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome
}

if found >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing Debian's chromium"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >"$log" 2>&1 && found >/dev/null; then
        rm -f "$log"
        exit 0
    fi
    tail -n 5 "$log" >&2
    rm -f "$log"
fi
echo "there is no Chromium here, and it cannot be installed: install the package chromium, or name a program with CHROMIUM" >&2
exit 1
