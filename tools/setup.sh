#!/usr/bin/env bash
# Sets up what the verbs of the Makefile need, and nothing that is there already.
#
#   tools/setup.sh python run|dev   the virtual environment .venv with the package installed in it, editable;
#                                   run = to use it from the shell, dev = with napari and all that checks and tests need
#   tools/setup.sh libraries        the shared libraries of the system that Qt and OpenGL load (Linux only)
#
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv

say() { printf '%s\n' "$@" >&2; }
stop() { say "$@"; exit 1; }

# ---------------------------------------------------------------- packages of the system
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

# Fails where it is not allowed to install; the caller knows whether that matters.
apt_install() {
    may_install || return 1
    say "Installing with apt-get: $*"
    as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Library and the Debian package that holds it. Qt's xcb platform loads them by name, so pip cannot know of them.
qt_libraries='
libGL.so.1                  libgl1
libEGL.so.1                 libegl1
libOpenGL.so.0              libopengl0
libglib-2.0.so.0            libglib2.0-0
libfontconfig.so.1          libfontconfig1
libdbus-1.so.3              libdbus-1-3
libxkbcommon.so.0           libxkbcommon0
libxkbcommon-x11.so.0       libxkbcommon-x11-0
libxcb-cursor.so.0          libxcb-cursor0
libxcb-icccm.so.4           libxcb-icccm4
libxcb-image.so.0           libxcb-image0
libxcb-keysyms.so.1         libxcb-keysyms1
libxcb-randr.so.0           libxcb-randr0
libxcb-render-util.so.0     libxcb-render-util0
libxcb-shape.so.0           libxcb-shape0
libxcb-xfixes.so.0          libxcb-xfixes0
libxcb-xinerama.so.0        libxcb-xinerama0
'
x_programs='
Xvfb                        xvfb
xauth                       xauth
'

missing_packages() {
    local known file package
    known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p) || return 0 # no glibc, no list: nothing can be said
    while read -r file package; do
        [[ -z $file || $known == *"$file "* ]] || echo "$package"
    done <<<"$qt_libraries"
    while read -r file package; do
        [ -z "$file" ] || command -v "$file" >/dev/null || echo "$package"
    done <<<"$x_programs"
}

set_up_libraries() {
    [ "$(uname -s)" = Linux ] || return 0
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] && return 0
    apt_install "${missing[@]}" && return 0
    say "The window may not open: these packages are missing and installing them is not allowed here. Run this once:" \
        "" "    sudo apt-get install ${missing[*]}" "" "(the names are Debian's; other systems have packages much like them)"
}

# ---------------------------------------------------------------- Python
# torch has no wheels for the very newest Python at first: name one with PYTHON=... to try it all the same.
suits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; return; fi
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
        if suits "$candidate"; then echo "$candidate"; return; fi
    done
    stop "No Python 3.11 to 3.14 found. Install one (on Debian 12 or Ubuntu 24.04: sudo apt-get install python3 python3-venv)" \
        "or name it: make PYTHON=/path/to/python3 ..."
}

make_venv() {
    local python
    python=$(find_python)
    # Debian keeps the half of venv that installs pip in a package of its own.
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        apt_install python3-venv || stop "'$python' cannot make virtual environments. Run this once: sudo apt-get install python3-venv"
    fi
    say "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
}

set_up_python() {
    local what=. stamps=("$venv/.ready-run")
    if [ "$1" = dev ]; then
        what='.[all,test]'
        stamps+=("$venv/.ready-dev")
    fi
    # An interrupted `venv` leaves no pip; a folder that was moved leaves one that does not start.
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || { rm -rf "$venv"; make_venv; }
    say "Installing napari-fewshot and what it needs into $venv (the first time a few minutes: torch is large)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$what"
    touch "${stamps[@]}"
}

case "${1:-}:${2:-}" in
    python:run | python:dev) set_up_python "$2" ;;
    libraries:) set_up_libraries ;;
    *) stop "usage: tools/setup.sh python run|dev, or tools/setup.sh libraries" ;;
esac
