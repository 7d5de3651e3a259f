#!/usr/bin/env bash
# The conversation of bin/tests/it/foreign with mosquitto_pub and mosquitto_sub: converse.sh TRANSPORT VERSION PORT NAME.
#
# TRANSPORT is tcp, or tls with the authorities in the file FOREBAY_TEST_CAFILE.
# VERSION is 3 (3.1), 4 (3.1.1) or 5. Prints one line for each step; ends with another code than 0 at the first that fails.
set -euo pipefail
version=$2 port=$3 name=$4
protocol=(mqttv31 mqttv311 mqttv5)
common=(-h 127.0.0.1 -p "$port" -V "${protocol[version - 3]}")
[ "$1" != tls ] || common+=(--cafile "$FOREBAY_TEST_CAFILE")
kept=(-c)
[ "$version" -lt 5 ] || kept+=(-x 600)
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT

# A subscriber in the background, its output in the file named after its last id; back when it is subscribed.
listen() {
    local leaf=$1 filter=$2
    shift 2
    stdbuf -oL mosquitto_sub "${common[@]}" -i "$name-$leaf" -t "$name/$filter" -q 2 -d \
        -F 'message %t %q %p' "$@" >"$dir/$leaf" &
    subscriber=$!
    waits_for "$dir/$leaf" '^Subscribed '
}

# Waits until a line of the file fits.
waits_for() {
    for _ in $(seq 400); do
        ! grep -q -- "$2" "$1" || return 0
        sleep 0.05
    done
    echo "no line $2 in:" >&2
    cat -- "$1" >&2
    return 1
}

send() {
    local leaf=$1
    shift
    timeout 20 mosquitto_pub "${common[@]}" -t "$name/$leaf" "$@"
}

# The first message for a new subscription, as retain flag and payload.
first() {
    timeout 20 mosquitto_sub "${common[@]}" -i "$name-late" -t "$name/kept" -q 2 -C 1 -F '%r %p'
}

listen watcher '#'
sed -n 's/^Subscribed .*: /granted /p' "$dir/watcher"
for qos in 0 1 2; do
    send "q/$qos" -q "$qos" -m "at $qos"
    waits_for "$dir/watcher" "^message $name/q/$qos "
    grep "^message $name/q/$qos " "$dir/watcher"
done
seq 100000 100 4999999 | sed 's/$/ line/' >"$dir/large"
timeout 20 mosquitto_sub "${common[@]}" -i "$name-late" -t "$name/large" -q 1 -C 1 -N >"$dir/got" &
reader=$!
# Retained, so that it does not matter which of the two comes first.
send large -q 1 -r -f "$dir/large"
wait "$reader"
cmp "$dir/large" "$dir/got" && echo "large true"
send large -q 1 -r -n

send kept -q 1 -r -m value
echo "retained $(first | sed 's/^1/true/')"
send kept -q 1 -r -n
listen late kept -C 1
send kept -q 1 -m cleared
wait "$subscriber"
sed -n 's/^message .* //p' "$dir/late"

listen holder queued "${kept[@]}" --will-topic "$name/will" --will-payload gone --will-qos 1
echo holding
# The process that stdbuf has become.
kill -9 "$subscriber"
waits_for "$dir/watcher" "^message $name/will "
sed -n "s|^message \($name/will .*\)|will \1|p" "$dir/watcher"
for number in $(seq 0 9); do
    send queued -q $((1 + number % 2)) -m "$number"
done
timeout 20 mosquitto_sub "${common[@]}" -i "$name-holder" -t "$name/other" -q 2 "${kept[@]}" -C 10 -F '%q %p' >"$dir/resumed"
# What is queued comes to a session that is resumed, without a subscription made anew: that is what this client can show.
[ "$version" -eq 3 ] || echo "present true"
for qos in 1 2; do
    echo "queued $qos $(sed -n "s/^$qos //p" "$dir/resumed" | paste -sd ' ')"
done
echo "done"
