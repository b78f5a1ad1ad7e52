# shellcheck shell=bash
# DevStack calls this at each phase: plugin.sh MODE [PHASE]. What is done is in lib/nova-docker-agent; when, is here.

_XTRACE_NDA_PLUGIN=$(set +o | grep xtrace)
set +o xtrace

# shellcheck source=devstack/lib/nova-docker-agent
source "$NDA_DIR/devstack/lib/nova-docker-agent"
# shellcheck source=devstack/lib/nova-docker-agent-tempest
source "$NDA_DIR/devstack/lib/nova-docker-agent-tempest"

case "$1:$2" in
    stack:pre-install)
        nda_check_settings
        nda_make_state_dir
        if is_service_enabled n-docker; then
            echo_summary "Preparing the host for nova-docker-agent"
            nda_prepare_rust
        fi
        ;;
    stack:install)
        if is_service_enabled n-docker; then
            echo_summary "Installing nova-docker-agent"
            nda_install_programs
            nda_configure_docker
        fi
        nda_install_virt_driver
        ;;
    stack:post-config)
        if is_service_enabled n-docker; then
            echo_summary "Configuring nova-docker-agent"
            nda_configure
        fi
        ;;
    stack:extra)
        # Here and not later: extras.d/80-tempest.sh looks for images at test-config, before it calls plugins.
        if is_service_enabled glance; then
            echo_summary "Uploading container images"
            nda_upload_images
            nda_load_metadata_definitions
        fi
        if is_service_enabled n-docker; then
            nda_start_compute
        fi
        ;;
    stack:test-config)
        # lib/tempest has written tempest.conf by now: what is set here stays.
        if is_service_enabled tempest; then
            echo_summary "Telling Tempest what a container can do"
            nda_configure_tempest
        fi
        ;;
    unstack:*)
        nda_stop
        nda_remove_instances
        ;;
    clean:*)
        nda_clean
        ;;
esac

$_XTRACE_NDA_PLUGIN
