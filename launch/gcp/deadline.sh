#!/usr/bin/env bash
# Makes a slice delete itself at its deadline. Google runs it as root whenever a host boots. `tpu`
# writes the values below into the copy that it sends, so the deadline needs no network.
#
#   start       (default) sets the timer for the deadline
#   in SECONDS  moves the timer to SECONDS from now, if that is earlier
#   now         ends the training, deletes the slice, and shuts the host down
#
# RVC_JAX_DEADLINE: when, in seconds since 1970; RVC_JAX_SECONDS: at most so long after a boot,
# whatever the host's clock says. Without them, the slice's metadata is asked.
set -u

readonly SELF=${RVC_JAX_SELF:-/usr/local/sbin/rvc-jax-deadline}
readonly HOMES=${RVC_JAX_HOMES:-/home}
readonly RETRY=${RVC_JAX_RETRY:-60}   # shorter in tests, as are the others
readonly LATER=${RVC_JAX_LATER:-600}
readonly LIMIT=${RVC_JAX_LIMIT:-60}   # seconds that one call may take
readonly SAVING=${RVC_JAX_SAVING:-180}
readonly SHORTEST=1800                # seconds until the end, where the deadline can't be known

# bounded COMMAND...: runs a command for LIMIT seconds at most.
bounded() { timeout --kill-after="${RVC_JAX_KILL:-5}" "$LIMIT" "$@" </dev/null; }

# attribute NAME: prints a value of the slice's metadata.
attribute() {
  bounded curl --silent --fail --header 'Metadata-Flavor: Google' --max-time 20 --retry 3 \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# Prints the seconds until the slice's deadline.
seconds_left() {
  local deadline=${RVC_JAX_DEADLINE:-} most=${RVC_JAX_SECONDS:-} left
  [[ -n $deadline ]] || deadline=$(attribute rvc-jax-deadline)
  if [[ ! $deadline =~ ^[1-9][0-9]{0,11}$ ]]; then
    echo "the deadline of this slice can't be read: it ends in $SHORTEST s" >&2
    echo "$SHORTEST"
    return
  fi
  left=$((deadline - EPOCHSECONDS))
  [[ ! $most =~ ^[1-9][0-9]{0,11}$ ]] || ((left < most)) || left=$most
  echo "$left"
}

# shut_down WHEN: shuts the host down `now`, or in +N minutes, which replaces an earlier +N.
shut_down() { bounded shutdown -h "$1" || { [[ $1 == now ]] && bounded systemctl poweroff --force; }; }

# set_timer SECONDS: runs `now` in so many seconds.
set_timer() {
  local -a timer=(systemd-run --collect --on-active="$1s")
  bounded systemctl stop rvc-jax-deadline.timer 2>/dev/null
  bounded "${timer[@]}" --unit=rvc-jax-deadline "$SELF" now || bounded "${timer[@]}" "$SELF" now
}

# arm [SECONDS]: sets the timer to the slice's deadline, or to SECONDS from now if that is earlier.
# The system's own shutdown is set first, before anything that may fail or hang, and stays set half
# an hour after the timer. Where no timer can be set, it is the deadline; where it can't be set
# either, the host shuts down now: a slice without a deadline may cost money for ever.
arm() {
  local left is_set=yes
  shut_down "+$((SHORTEST / 60 + 30))" || is_set=
  [[ $0 -ef $SELF ]] || bounded install -m 755 "$0" "$SELF"
  left=$(seconds_left)
  ((left < ${1:-left})) || left=${1:-$left}
  ((left > 1)) || left=1
  if [[ -x $SELF ]] && set_timer "$left"; then
    shut_down "+$((left / 60 + 30))"
  elif ! shut_down "+$((left / 60 + 1))" && [[ -z $is_set ]]; then
    shut_down now
  fi
}

# Asks every training to save and exit, and waits for them, three minutes at most.
end_training() {
  local file process second=0
  for file in "$HOMES"/*/rvc_jax/train.pid; do
    process=$(head -c 20 "$file" 2>/dev/null) && [[ $process =~ ^[1-9][0-9]*$ ]] || continue
    kill -TERM "$process" 2>/dev/null || continue
    for ((; second < SAVING; second++)); do
      kill -0 "$process" 2>/dev/null || break
      sleep 1
    done
  done
}

# Deletes the slice. The first host does it at once; the others wait, in case the first one fails.
# A deletion that has begun ends this host, so a host that is still there tries again.
delete_slice() {
  local name=${RVC_JAX_NAME:-} zone=${RVC_JAX_ZONE:-}
  [[ -n $name ]] || name=$(attribute rvc-jax-name)
  [[ -n $zone ]] || zone=$(attribute rvc-jax-zone)
  [[ ! $(attribute agent-worker-number) =~ ^[1-9][0-9]*$ ]] || sleep "$LATER"
  [[ -n $name && -n $zone ]] || return
  for _ in 1 2 3; do
    bounded gcloud compute tpus queued-resources delete "$name" "--zone=$zone" --force --quiet --async
    bounded gcloud compute tpus tpu-vm delete "$name" "--zone=$zone" --quiet --async
    sleep "$RETRY"
  done
}

case ${1:-start} in
  start) arm ;;
  in)
    [[ ${2:-} =~ ^[1-9][0-9]{0,8}$ ]] || exit 2
    arm "$2" ;;
  now)
    # Whatever hangs below, the host shuts down.
    if ! shut_down "+30"; then (sleep 1800 && shut_down now) >/dev/null 2>&1 & fi
    end_training
    delete_slice
    shut_down now ;;
  *) exit 2 ;;
esac
