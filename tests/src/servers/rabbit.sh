#!/usr/bin/env bash
# Runs the RabbitMQ server whose folder is $1, and stops it when nobody has held a lock on $1/users for $2 seconds (0: never).
# Started in a process group of its own, which is what is killed in the end.
set -u
cd "$1" || exit 1
idle_max=$2
"$RABBITMQ_SERVER" >>out 2>&1 &
server=$!
stop() {
    rm -f ready
    kill -KILL "$(cat pid 2>/dev/null)" 2>/dev/null
    epmd -port "$ERL_EPMD_PORT" -kill >/dev/null 2>&1
    trap - TERM EXIT
    kill -KILL -- -$$ 2>/dev/null
}
trap stop TERM EXIT
idle=0
while kill -0 "$server" 2>/dev/null; do
    sleep 1 &
    wait $!
    [ "$idle_max" -gt 0 ] || continue
    if flock --nonblock users true; then idle=$((idle + 1)); else idle=0; fi
    [ "$idle" -lt "$idle_max" ] && continue
    # Nobody comes in while the gate is held.
    exec 9>gate
    flock --nonblock 9 || continue
    flock --nonblock users true && exit 0
    exec 9>&-
    idle=0
done
