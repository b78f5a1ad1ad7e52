#!/bin/bash
# A DevStack that installs nothing: it reads and calls the plugin as stack.sh, unstack.sh and clean.sh do, in their order.
# devstack.bash stack|unstack|clean; $SANDBOX has the machine, $SANDBOX/localrc what local.conf says.
set -o errexit

HARNESS=$(dirname "$(readlink -f "$0")")
PLUGIN=$(readlink -f "$HARNESS/../../..")
export SANDBOX HARNESS PLUGIN
export PATH=$HARNESS/bin:$PATH HOME=$SANDBOX/home

TOP_DIR=$SANDBOX/devstack
DEST=$SANDBOX/opt DATA_DIR=$SANDBOX/opt/data
STACK_USER=$(id -un)
NOVA_CONF=$SANDBOX/etc/nova.conf NOVA_CPU_CONF=$SANDBOX/etc/nova-cpu.conf
GLANCE_BIN_DIR=$HARNESS/bin GLANCE_CONF_DIR=$SANDBOX/etc
TEMPEST_CONFIG=$SANDBOX/etc/tempest.conf SSL_BUNDLE_FILE=$SANDBOX/opt/data/ca-bundle.pem
NOVA_MY_IP=10.1.0.5 REGION_NAME=RegionOne NOVA_READY_TIMEOUT=60 OFFLINE=False
VIRT_DRIVER=libvirt ENABLED_SERVICES='' DISABLED_SERVICES=''
# These keep the plugin off the machine that the test runs on.
NDA_BIN_DIR=$SANDBOX/usr/local/bin NDA_DOCKER_CONF=$SANDBOX/etc/docker/daemon.json NDA_SOCKET=$SANDBOX/run/agent/driver.sock

# shellcheck source=devstack/tests/plugin/functions.bash
source "$HARNESS/functions.bash"
# shellcheck disable=SC1091
source "$SANDBOX/localrc"

source_lib_nova() {
    if is_service_enabled nova && [[ -r "$TOP_DIR/lib/nova_plugins/hypervisor-$VIRT_DRIVER" ]]; then
        # shellcheck disable=SC1090
        source "$TOP_DIR/lib/nova_plugins/hypervisor-$VIRT_DRIVER"
    fi
}

has_hypervisor() { is_service_enabled n-cpu && [[ -r "$TOP_DIR/lib/nova_plugins/hypervisor-$VIRT_DRIVER" ]]; }

configure_nova() {
    rm -f "$NOVA_CONF"
    iniset "$NOVA_CONF" DEFAULT state_path "$DATA_DIR/nova"
    ! has_hypervisor || configure_nova_hypervisor
}

start_nova() {
    cp "$NOVA_CONF" "$NOVA_CPU_CONF"
    iniset "$NOVA_CPU_CONF" DEFAULT transport_url rabbit://host/nova_cell1
    ! has_hypervisor || start_nova_hypervisor
    run_process n-cpu "/opt/bin/nova-compute --config-file $NOVA_CPU_CONF"
}

stop_nova() {
    stop_process n-cpu
    ! has_hypervisor || stop_nova_hypervisor
}

plugin() { source "$PLUGIN/devstack/plugin.sh" "$@"; }

stack() {
    source "$PLUGIN/devstack/override-defaults"
    source_lib_nova
    source "$PLUGIN/devstack/settings"
    plugin stack pre-install
    ! has_hypervisor || install_nova_hypervisor
    if is_service_enabled nova; then configure_nova; fi
    if is_service_enabled placement n-cpu n-sch; then configure_placement_nova_compute; fi
    plugin stack install
    plugin stack post-config
    if is_service_enabled nova; then start_nova; fi
    plugin stack extra
    if is_service_enabled tempest; then
        rm -f "$TEMPEST_CONFIG"
        iniset "$TEMPEST_CONFIG" compute-feature-enabled vnc_console True
    fi
    plugin stack test-config
    set | grep -E '^(IMAGE_URLS|DEFAULT_IMAGE_NAME|DEFAULT_INSTANCE_USER|NOVA_SHUTDOWN_TIMEOUT|ENABLED_SERVICES)=' \
        >"$SANDBOX/variables"
}

unstack() {
    source "$PLUGIN/devstack/override-defaults"
    source_lib_nova
    source "$PLUGIN/devstack/settings"
    plugin unstack
    if is_service_enabled nova; then stop_nova; fi
}

clean() {
    source_lib_nova
    "$0" unstack
    source "$PLUGIN/devstack/settings"
    plugin clean
    if is_service_enabled nova && [[ -r "$TOP_DIR/lib/nova_plugins/hypervisor-$VIRT_DRIVER" ]]; then
        cleanup_nova_hypervisor
    fi
    rm -f "$SANDBOX"/etc/*.conf
}

"$1"
