# The parts of tests/run. Sourced; needs what tests/run sets, phases.bash and tools.bash.

# Clippy compiles the workspace in the compiler's place, for all cargo commands of a run: what is linted is what is tested,
# and it is compiled once.
RUSTC_WORKSPACE_WRAPPER=$(command -v clippy-driver || echo "${CARGO_HOME:-$HOME/.cargo}/bin/clippy-driver")
export RUSTC_WORKSPACE_WRAPPER

mini() { local command=$1; shift; "$root/devstack/mini" "$command" --state-dir "$state_dir" "$@"; }

run_pytest() { "$state_dir/venv/bin/python" -B -m pytest "$@"; }

describe_run() {
    printf '%s of commit %s, %s' "${full:+everything}${full:-the gate}" \
        "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "${selected[*]}"
}

# ---------------------------------------------------------------- the cloud

# Whether its supervisor runs. `mini status` asks for more: that every service works.
cloud_runs() {
    local pid
    read -r pid 2>/dev/null <"$state_dir/run/supervisord.pid" && grep -qsF supervisord "/proc/$pid/cmdline"
}

cloud_ran_before=
start_cloud() {
    ! cloud_runs || cloud_ran_before=yes
    # A directory that was made with OVN is refused, before tests wait for what is not there.
    local options=(--network ovs --agent --door "${doors[0]}" --no-release)
    [ -z "$full" ] || options=(--network ovs --agent --door "${doors[0]}" --release --fake-compute --with heat)
    [[ " ${pytest_arguments[*]-} " != *" --against fake "* ]] || options+=(--fake-compute)
    beside cloud phase cloud-up up_alone "${options[@]}"
}

up_alone() { remove_ovn_cloud && mini up "$@"; }

stop_cloud() {
    if [ -n "$keep$cloud_ran_before" ]; then
        note "the cloud is left running; stop it with ./devstack/mini down"
    else
        phase cloud-down mini down
    fi
}

# ---------------------------------------------------------------- build and checks

# A clone without a target directory begins with the dependencies that an earlier run compiled. Links, not copies: nobody
# writes into a compiled dependency. What the workspace itself makes is not kept.
# What the workspace's own crates depend on changes nothing of that.
seed_of_build() {
    local of
    of=$({ grep -E '^(name|version|source|checksum) =' Cargo.lock && cat Cargo.toml && rustc -vV; } | sha256sum | cut -c 1-16)
    printf '%s/build-%s' "$tools" "$of"
}

take_seed() {
    local seed
    seed=$(seed_of_build)
    [ -d "$seed" ] && [ ! -e target ] || return 0
    cp -al "$seed" target 2>/dev/null || { rm -rf target && cp -a "$seed" target; }
    note "compiled dependencies of an earlier run are used (${seed##*/})"
}

keep_seed() {
    local seed
    seed=$(seed_of_build)
    [ ! -d "$seed" ] || return 0
    rm -rf "$tools"/build-*
    mkdir -p "$seed.new/debug"
    if cp -al target/debug/{.fingerprint,build,deps} "$seed.new/debug/" 2>/dev/null &&
        cargo clean --quiet --workspace --target-dir "$seed.new"; then
        # Or whoever links it waits for all the others.
        find "$seed.new" -name .cargo-lock -delete
        mv "$seed.new" "$seed"
    else
        rm -rf "$seed.new"
    fi
}

# What the cloud waits for first.
build_everything() {
    cargo build --locked -p nova-docker-agent -p nova-docker-registry -p nova-docker-runtime &&
        cargo build --locked --workspace --all-targets &&
        keep_seed
}

# cargo repeats the warnings of what it did not have to compile again.
clippy_check() {
    if grep -B 1 -A 12 '^warning' "$logs/build.log"; then
        return 1
    fi
    echo "clippy: no warnings"
}

ruff_check() { "$tools/venv/bin/ruff" check . && "$tools/venv/bin/ruff" format --check .; }

dependency_check() {
    install_cargo_deny && "$tools/bin/cargo-deny" --manifest-path "$root/Cargo.toml" check licenses bans sources
}

# What clients were built with must stay readable: baseline.binpb is the contract as it was released.
contract_check() {
    local buf=$tools/venv/bin/buf
    cd "$root/proto" && "$buf" lint && "$buf" breaking --against baseline.binpb && echo "contract ok"
}

run_checks() {
    phase format cargo fmt --all --check
    phase tools install_tools
    after tools phase ruff ruff_check
    after build phase clippy clippy_check
    stamped dependencies "$(digest_of Cargo.lock deny.toml tests/lib/tools.bash)" dependency_check
    after tools stamped contract "$(digest_of proto/buf.yaml proto/baseline.binpb proto/nova_docker tests/requirements.txt)" \
        contract_check
}

# ---------------------------------------------------------------- tests

# One process for all tests of a crate: to start one for each takes longer than most of them.
unit_tests() { cargo test --locked --no-fail-fast --workspace --lib --bins; }

# Some of them need the Python of the cloud, and all its Debian packages.
integration_tests() { STATE_DIR=$state_dir cargo test --locked --workspace --test integration -- "$@"; }

# Docker writes other archives and answers since version 25.
integration_docker26() { NOVA_DOCKER_TEST_DOCKER=$tools/docker26 integration_tests; }

# The default of new installations since Docker 29.
integration_image_store() {
    NOVA_DOCKER_TEST_SETTINGS='{"features": {"containerd-snapshotter": true}}' integration_docker26
}

run_integration() {
    join cloud
    after build phase integration integration_tests
    if [ -n "$full" ]; then
        phase docker26 install_docker26
        after docker26 phase integration-docker26 integration_docker26
        after docker26 phase integration-image-store integration_image_store
    fi
    after cloud-up phase devstack run_pytest devstack/tests
    # Of the plugin as `mini` has built and installed it.
    after cloud-up phase compose run_pytest python-shim/compose/tests -n 2
    after cloud-up stamped heat "$(digest_of python-shim/heat devstack/requirements.lock)" run_pytest python-shim/heat/tests
}

# The tests are tested by a registry of somebody else's, which needs nothing of the cloud but its Python.
run_reference() {
    join cloud
    after cloud-up stamped registry-ref "$(digest_of tests/registry tests/cloud/harness)" \
        registry_tests -n 2 --dist worksteal --target reference
}

# What needs no cloud: it has the processors while the tests of the cloud wait.
run_on_host() {
    if wants checks unit integration; then phase build build_everything; fi
    if wants checks; then run_checks; fi
    if wants unit; then after build phase unit unit_tests; fi
    if wants shim; then
        phase shim "$root/python-shim/tests/compat" --state-dir "$tools/shim" ${full:+--full}
    fi
    if wants integration; then run_integration; fi
    if wants registry && [ ${#pytest_arguments[@]} -eq 0 ]; then run_reference; fi
}

run_on_cloud() {
    join cloud
    if wants cloud; then run_cloud; fi
    if wants registry; then run_registry; fi
    if wants bench; then run_benchmarks; fi
}

# Most of a test of the cloud is waiting. More workers than these wait for each other.
workers=(-n 3)

cloud_tests() { run_pytest tests/cloud --state-dir "$state_dir" "${workers[@]}" "$@"; }

run_cloud() {
    local open=cloud-up door
    for door in "${doors[@]}"; do
        # The last door stays open: it is the one that `mini up` opens by itself.
        if [ "$door" != "${doors[0]}" ]; then
            open=door-$door
            after cloud-up phase "$open" mini up --door "$door"
        fi
        local chosen=()
        # Through the second door what it can change; everything only with --full.
        if [ -z "$full" ]; then
            chosen=(-m "not full")
            [ "$door" != grpc ] || chosen=(-m "not full and (grpc or both_doors)")
        fi
        after "$open" phase "cloud-$door" cloud_tests ${chosen[@]+"${chosen[@]}"} \
            ${pytest_arguments[@]+"${pytest_arguments[@]}"}
    done
}

registry_tests() { run_pytest tests/registry --state-dir "$state_dir" "$@"; }

run_registry() {
    ! wants cloud || pytest_arguments=()
    local gate='' shared=("${workers[@]}" --dist worksteal)
    [ -n "$full" ] || gate='not full and '
    if [ ${#pytest_arguments[@]} -gt 0 ]; then
        after cloud-up phase registry registry_tests "${shared[@]}" "${pytest_arguments[@]}"
        return
    fi
    after cloud-up phase registry registry_tests "${shared[@]}" -m "${gate}not alone"
    after cloud-up phase registry-alone registry_tests -m "${gate}alone"
}

benchmark() { # NAME ARGUMENT...
    local name=$1
    shift
    "$state_dir/venv/bin/python" -B "$here/bench/$name.py" --state-dir "$state_dir" "$@"
}

# As a smoke test: whether they run, not what they say.
run_benchmarks() {
    after cloud-up phase bench-launch benchmark launch --count 1 --doors amqp,grpc
    after cloud-up phase bench-grpc benchmark grpc_call --count 10
    after cloud-up phase bench-registry benchmark registry --sizes 20 --count 1
    after cloud-up phase bench-refusals benchmark registry_refusals --count 2
}

# ---------------------------------------------------------------- on OVN

# What depends on who wires the ports.
ovn_tests=(network launch lifecycle interfaces links neutron)

# A cloud keeps the network that it was made with, so OVN has a cloud of its own for a while. Two clouds have the same ports:
# the other one is down meanwhile.
run_ovn() {
    local was_up=$cloud_ran_before
    ! cloud_runs || was_up=yes
    phase ovs-down mini down
    run_ovn_tests
    [ -z "$was_up" ] || phase ovs-up mini up
}

run_ovn_tests() {
    local state_dir=$tools/ovn files=("${ovn_tests[@]/#/tests/cloud/test_}")
    ! wants cloud registry || pytest_arguments=()
    after ovs-down phase ovn-up make_ovn_cloud
    after ovn-up phase ovn run_pytest "${files[@]/%/.py}" --state-dir "$state_dir" "${workers[@]}" \
        ${pytest_arguments[@]+"${pytest_arguments[@]}"}
    phase ovn-down end_ovn_cloud
}

# Packages, images and programs are those of the other cloud.
make_ovn_cloud() {
    remove_ovn_cloud && mkdir -p "$state_dir" && ln -s ../.. "$state_dir/cache" || return
    mini up --network ovn --agent --door "${doors[-1]}" ${full:+--release}
}

end_ovn_cloud() {
    rm -rf "$artifacts/ovn-log"
    [ ! -d "$state_dir/log" ] || cp -r "$state_dir/log" "$artifacts/ovn-log"
    remove_ovn_cloud
}

# Also one that an interrupted run has left. `mini` wipes what it knows as a cloud's; of the rest only we know whose it is.
remove_ovn_cloud() {
    local state_dir=$tools/ovn
    if [ -e "$state_dir/options.json" ] || [ -e "$state_dir/cache" ]; then
        mini down --wipe
    elif [ -e "$state_dir" ]; then
        mini down && remove_directory "$state_dir"
    fi
}

# Unless something is mounted in it.
remove_directory() {
    local path
    path=$(readlink -f "$1") || return
    if grep -F " $path/" /proc/self/mounts; then
        printf 'mounted below %s, which was left alone: umount it first\n' "$path"
        return 1
    fi
    rm -rf --one-file-system "$path"
}
