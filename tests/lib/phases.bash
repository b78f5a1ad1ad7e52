# Phases of tests/run: each is timed, logged under $artifacts/logs, and summed up at the end by the closing
# lines of its own runner. Some run in a lane of their own, beside the others. Sourced; needs $artifacts, $logs, $state_dir,
# $here, $ci and $full.

started=$SECONDS
lane=''
declare -A lane_pid=()

clock() { printf '%3d:%02d' $(($1 / 60)) $(($1 % 60)); }

note() { printf '[%s] %s\n' "$(clock $((SECONDS - started)))" "$*"; }

# phase NAME COMMAND...: run it and keep its output, and its status and seconds in NAME.result, which every lane can read.
# The output is shown too; of a phase in a lane only the end.
phase() {
    local name=$1 begin=$SECONDS status
    shift
    # What was started has to stop, and what was stopped to start again, also when the time is over.
    if [ -e "$artifacts/out-of-time" ] && [[ ! $name =~ ^(cloud-down|ovn-down|ovs-up)$ ]]; then set -- not_in_time; fi
    note "=== $name${lane:+ (beside the others)}"
    if [ -n "$lane" ]; then
        # Where a command goes to is its own affair.
        (measured "$name" "$@") >"$logs/$name.log" 2>&1
        status=$?
    else
        measured "$name" "$@" 2>&1 | tee "$logs/$name.log"
        status=${PIPESTATUS[0]}
    fi
    printf '%s %s\n' "$status" $((SECONDS - begin)) >"$logs/$name.result"
    printf '%s\n' "$name" >>"$logs/phases"
    [ -z "$lane" ] || { note "=== $name: $(word_of "$status")" && closing_lines "$name"; }
}

# measured NAME COMMAND...: in a process of its own, whose children's processor time it leaves in NAME.cpu, in seconds. The
# programs of the cloud are no children of it.
measured() {
    local name=$1 status
    shift
    "$@"
    status=$?
    # In this process: one of a pipe has no children.
    times >"$logs/$name.times"
    awk -F '[ms ]+' 'END { printf "%d\n", $1 * 60 + $2 + $3 * 60 + $4 }' "$logs/$name.times" >"$logs/$name.cpu"
    return $status
}

word_of() { if [ "$1" = 0 ]; then echo passed; else echo FAILED; fi; }

status_of() {
    local status
    read -r status _ 2>/dev/null <"$logs/$1.result" && printf '%s' "$status"
}

# after NEEDED phase NAME COMMAND...: only if that phase passed; otherwise this one counts as failed too.
after() {
    local needed=$1 status
    shift
    status=$(status_of "$needed")
    if [ "${status:-0}" = 0 ]; then
        "$@"
    else
        phase "$2" not_run "$needed"
    fi
}

not_run() {
    printf 'not run, because the phase "%s" failed\n' "$1"
    return 1
}

not_to_its_end() {
    printf 'not run to its end; what it said is above\n'
    return 1
}

not_in_time() {
    printf 'not run: the time of this run was over\n'
    return 1
}

# beside LANE COMMAND...: phases that run beside what follows, until `join LANE`. Only the first lane, which the others wait
# for, is not nice.
beside() {
    local name=$1
    shift
    (
        trap - INT EXIT
        # Its phase is ended by the signal too, and is told of; those after it do not begin.
        trap : TERM
        lane=$name
        [ ${#lane_pid[@]} -eq 0 ] || renice -n 10 "$BASHPID" >/dev/null
        "$@"
        : >"$logs/$name.lane"
    ) &
    lane_pid[$name]=$!
}

# From any lane: it need not be a child of who waits.
join() {
    local pid=${lane_pid[$1]-}
    while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do tail -s 0.2 -f --pid="$pid" /dev/null; done
}

# limit_run SECONDS: then what still runs is ended, so that the results are told and nothing is left.
limit_run() {
    (
        trap 'kill $! 2>/dev/null' TERM
        sleep "$1" & wait $! || exit 0
        note "the time is over: what runs is ended"
        end_descendants
        sleep 20 & wait $! || exit 0
        kill_ended
    ) &
    watcher=$!
}

stop_watcher() { [ -z "${watcher-}" ] || kill "$watcher" 2>/dev/null; }

# What this run has started; the programs of the cloud are no children of it.
end_descendants() {
    local pid asks=$BASHPID
    touch "$artifacts/out-of-time"
    ended=$(descendants $$)
    for pid in $ended; do kill "$pid" 2>/dev/null; done
}

# Whatever is left of that, but not what was begun since then: the phases that are still run put things back.
kill_ended() {
    local pid child asks=$BASHPID
    for pid in $ended; do
        for child in $(descendants "$pid") "$pid"; do kill -KILL "$child" 2>/dev/null; done
    done
}

# All but the process that asks, and what it has started.
descendants() {
    local child
    for child in $(ps -o pid= --ppid "$1"); do
        [ "$child" = "$asks" ] || { printf '%s\n' "$child" && descendants "$child"; }
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
    if [ "$(status_of "$name")" = 0 ]; then
        { grep -v "^$name " "$stamps" 2>/dev/null; printf '%s %s\n' "$name" "$digest"; } | sort >"$stamps.new"
        mv "$stamps.new" "$stamps"
    fi
}

# The lines with which the runner itself closed: nextest, cargo, pytest, cargo-deny, ruff.
closing_lines() {
    sed 's/\x1b\[[0-9;]*m//g' "$logs/$1.log" | grep -E \
        -e '^ *Summary \[' -e '^test result:' -e '^ *Finished `' -e '^error: could not' \
        -e '^=+ .*(passed|failed|error|skipped|no tests).* =+$' \
        -e '(licenses|bans|sources) (ok|FAILED)' \
        -e '^All checks passed' -e '^[0-9]+ files? (already|would)' -e '^Found [0-9]+ error' \
        -e '^contract ok' -e '^clippy: ' -e '^unchanged since' -e '^Success: no issues' -e '^Found [0-9]+ errors? in' -e '^shim: FAILED' \
        -e '^not run' | tail -n 8 | sed 's/^ */    /'
}

print_results() {
    local name status seconds cpu failed=()
    # A lane that broke off has phases that nobody knows of.
    for name in "${!lane_pid[@]}"; do
        [ -e "$logs/$name.lane" ] || phase "$name" not_to_its_end
    done
    printf '\n'
    note "=== results"
    while read -r name; do
        read -r status seconds <"$logs/$name.result"
        [ "$status" = 0 ] || failed+=("$name")
        read -r cpu 2>/dev/null <"$logs/$name.cpu" || cpu=0
        printf '%-14s %-7s %s  processors %s\n' "$name" "$(word_of "$status")" "$(clock "$seconds")" "$(clock "$cpu")"
        closing_lines "$name"
    done <"$logs/phases"
    if [ ${#failed[@]} -eq 0 ]; then
        note "everything passed"
        exit 0
    fi
    [ -z "$ci" ] || print_tails "${failed[@]}"
    note "FAILED; the logs are in $logs"
    exit 1
}

# The ends of the logs that explain a failure.
print_tails() {
    local name log of_cloud=''
    for name in "$@"; do
        printf '\n--- end of %s\n' "$name"
        tail -n 60 "$logs/$name.log"
        [[ $name != cloud-* && $name != door-* && $name != registry* ]] || of_cloud=yes
    done
    [ -n "$of_cloud" ] || return 0
    for log in "$state_dir"/log/*{agent,registry,nova-compute,nova-conductor,dockerd,rabbit}*; do
        [ -f "$log" ] || continue
        printf '\n--- end of %s\n' "$log"
        tail -n 40 "$log"
    done
}
