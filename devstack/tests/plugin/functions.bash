# shellcheck shell=bash
# What the plugin calls of DevStack, in the fewest words that behave the same. Needs $SANDBOX; records into $SANDBOX/log.

log() { printf '%s\n' "$*" >>"$SANDBOX/log"; }

die() {
    shift # the line
    printf 'ERROR: %s\n' "$*" >&2
    exit 1
}

echo_summary() { printf '%s\n' "$*"; }
define_plugin() { :; }
ipv6_unquote() { printf '%s\n' "${1//[\[\]]/}"; }

vercmp() { # two versions with >= between them
    [[ "$2" == ">=" && "$(printf '%s\n%s\n' "$1" "$3" | sort -V | head -1)" == "$3" ]]
}

# ---------------------------------------------------------------- services

is_service_enabled() { # one of them
    local service
    for service in "$@"; do
        case ",$ENABLED_SERVICES," in *",$service,"*) return 0 ;; esac
        case "$service:,$ENABLED_SERVICES" in nova:*,n-* | glance:*,g-* | neutron:*,q-*) return 0 ;; esac
    done
    return 1
}

enable_service() {
    case ",$DISABLED_SERVICES," in *",$1,"*) return 0 ;; esac
    is_service_enabled "$1" || ENABLED_SERVICES+=,$1
}

disable_service() {
    DISABLED_SERVICES+=,$1
    ENABLED_SERVICES=$(printf '%s' "$ENABLED_SERVICES" | tr , '\n' | grep -vx "$1" | paste -sd ,)
}

# A unit that runs is a file with its command, group and user. Like systemd, it does not start a second one.
run_process() {
    is_service_enabled "$1" || return 0
    [[ "$2" == /* && "$2" != *sudo* ]] || die 0 "run_process: $2"
    [[ -e "$SANDBOX/units/$1" ]] || log "start $1"
    printf '%s\n' "$2" "group ${3:-}" "user ${4:-$STACK_USER}" >"$SANDBOX/units/$1"
}

stop_process() {
    is_service_enabled "$1" || return 0
    [[ ! -e "$SANDBOX/units/$1" ]] || log "stop $1"
    rm -f "$SANDBOX/units/$1"
}

restart_service() { log "restart $1"; }

# ---------------------------------------------------------------- configuration files

# A line for each option: SECTION OPTION=VALUE. Without any other program: hundreds of these calls are in a test.
iniset() {
    local file=$1 wanted="$2 $3=" lines=() line found=''
    [[ ! -e "$file" ]] || mapfile -t lines <"$file"
    for line in "${!lines[@]}"; do
        [[ "${lines[line]}" != "$wanted"* ]] || { lines[line]=$wanted$4 && found=yes; }
    done
    [[ -n "$found" ]] || lines+=("$wanted$4")
    printf '%s\n' "${lines[@]}" >"$file"
}

iniget() {
    local line lines=()
    mapfile -t lines <"$1"
    for line in "${lines[@]}"; do
        [[ "$line" != "$2 $3="* ]] || printf '%s\n' "${line#*=}"
    done
}

configure_placement_nova_compute() { iniset "$NOVA_CONF" placement username nova; }

# ---------------------------------------------------------------- the rest

async_wait() { log "async_wait $*"; }
pip_install() { log "pip_install $*"; }
pip_uninstall() { log "pip_uninstall $*"; }
is_nova_ready() { log is_nova_ready; }

# Once is enough: what is asked for here never changes while one waits.
test_with_retry() { sh -c "$1" || die 0 "$2"; }
