# Phases of tests/run: each is timed, logged under $artifacts/logs, and summed up at the end by the closing
# lines of its own runner. Sourced; needs $artifacts, $state_dir, $here, $ci and $full.

started=$SECONDS
phase_names=()
declare -A phase_status phase_seconds background_pid

clock() { printf '%3d:%02d' $(($1 / 60)) $(($1 % 60)); }

note() { printf '[%s] %s\n' "$(clock $((SECONDS - started)))" "$*"; }

# phase NAME COMMAND...: run it, show and keep its output.
phase() {
    local name=$1 begin=$SECONDS
    shift
    note "=== $name"
    # Also at its end, what was started has to stop.
    if [ -e "$artifacts/out-of-time" ] && [ "$name" != cloud-down ]; then set -- not_in_time; fi
    "$@" 2>&1 | tee "$artifacts/logs/$name.log"
    phase_status[$name]=${PIPESTATUS[0]}
    phase_seconds[$name]=$((SECONDS - begin))
    phase_names+=("$name")
}

# after NEEDED phase NAME COMMAND...: only if that phase passed; otherwise this one counts as failed too.
after() {
    local needed=$1
    shift
    if [ "${phase_status[$needed]-0}" = 0 ]; then
        "$@"
    else
        phase "$2" not_run "$needed"
    fi
}

not_run() {
    printf 'not run, because the phase "%s" failed\n' "$1"
    return 1
}

not_in_time() {
    printf 'not run, or not to its end: the time of this run was over\n'
    return 1
}

# limit_run SECONDS: then what still runs is ended, so that the results are told and nothing is left.
limit_run() {
    (
        sleep "$1" &
        trap 'kill $!' TERM
        wait $! || exit 0
        touch "$artifacts/out-of-time"
        note "the time is over: what runs is ended"
        for signal in TERM KILL; do
            for pid in $(descendants $$); do
                [ "$pid" = "$BASHPID" ] || kill -"$signal" "$pid" 2>/dev/null
            done
            sleep 30
        done
    ) &
    watcher=$!
}

stop_watcher() { [ -z "${watcher-}" ] || kill "$watcher" 2>/dev/null; }

descendants() {
    local child
    for child in $(ps -o pid= --ppid "$1"); do
        [ "$child" = "$BASHPID" ] || { printf '%s\n' "$child" && descendants "$child"; }
    done
}

# digest_of PATH...: of the names and contents of files, and of all files below folders.
digest_of() { find "$@" -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1; }

# stamped NAME DIGEST COMMAND...: a phase that is left out when it passed with the same digest before. tests/stamps says which
# one that was, and is part of the repository: a change of what the phase reads must come with a run that passed.
stamped() {
    local name=$1 digest=$2 stamps=$here/stamps
    shift 2
    if [ -z "$full" ] && grep -qxF "$name $digest" "$stamps" 2>/dev/null; then
        phase "$name" echo "unchanged since it passed (tests/stamps)"
        return
    fi
    phase "$name" "$@"
    if [ "${phase_status[$name]}" = 0 ]; then
        { grep -v "^$name " "$stamps" 2>/dev/null; printf '%s %s\n' "$name" "$digest"; } | sort >"$stamps.new"
        mv "$stamps.new" "$stamps"
    fi
}

# in_background NAME COMMAND...: start it; `wait_for_background NAME` shows its output and has its status.
in_background() {
    local name=$1
    shift
    note "=== $name (beside what follows)"
    # Made here, or whoever follows the log at once finds none.
    : >"$artifacts/logs/$name.background"
    # A process group of its own, so that an interruption ends all of it.
    setsid bash -c '"${@:2}" >"$1.background" 2>&1; echo $? >"$1.status"' - "$artifacts/logs/$name" "$@" &
    background_pid[$name]=$!
}

wait_for_background() {
    local log=$artifacts/logs/$1
    tail -n +1 -f --pid="${background_pid[$1]}" "$log.background"
    [ "$(cat "$log.status" 2>/dev/null)" = 0 ]
}

stop_background() {
    local pid
    for pid in "${background_pid[@]}"; do
        kill -TERM -- "-$pid" 2>/dev/null || true
    done
}

# The lines with which the runner itself closed: nextest, cargo, pytest, cargo-deny, ruff.
closing_lines() {
    sed 's/\x1b\[[0-9;]*m//g' "$artifacts/logs/$1.log" | grep -E \
        -e '^ *Summary \[' -e '^test result:' -e '^ *Finished `' -e '^error: could not' \
        -e '^=+ .*(passed|failed|error|skipped|no tests).* =+$' \
        -e '(licenses|bans|sources) (ok|FAILED)' \
        -e '^All checks passed' -e '^[0-9]+ files? (already|would)' -e '^Found [0-9]+ error' \
        -e '^contract ok' -e '^clippy: ' -e '^unchanged since' -e '^Success: no issues' -e '^Found [0-9]+ errors? in' -e '^shim: FAILED' \
        -e '^not run,' | tail -n 8
}

print_results() {
    local name failed='' word
    printf '\n'
    note "=== results"
    for name in "${phase_names[@]}"; do
        word=passed
        [ "${phase_status[$name]}" = 0 ] || { word=FAILED && failed=yes; }
        printf '%-14s %-7s %s\n' "$name" "$word" "$(clock "${phase_seconds[$name]}")"
        closing_lines "$name" | sed 's/^ */    /'
    done
    if [ -z "$failed" ]; then
        note "everything passed"
        exit 0
    fi
    [ -z "$ci" ] || print_tails
    note "FAILED; the logs are in $artifacts/logs"
    exit 1
}

# The ends of the logs that explain a failure.
print_tails() {
    local name log
    for name in "${phase_names[@]}"; do
        [ "${phase_status[$name]}" != 0 ] || continue
        printf '\n--- end of %s\n' "$name"
        tail -n 60 "$artifacts/logs/$name.log"
    done
    local of_cloud=''
    for name in "${phase_names[@]}"; do
        [[ $name != cloud-* && $name != door-* && $name != registry* ]] || of_cloud+=${phase_status[$name]}
    done
    [[ $of_cloud == *[1-9]* ]] || return 0
    for log in "$state_dir"/log/*{agent,registry,nova-compute,nova-conductor,dockerd,rabbit}*; do
        [ -f "$log" ] || continue
        printf '\n--- end of %s\n' "$log"
        tail -n 40 "$log"
    done
}
