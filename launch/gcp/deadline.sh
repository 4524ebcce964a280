#!/usr/bin/env bash
# Makes a slice delete itself at its deadline. Google runs it as root whenever a host boots.
#
#   start       (default) sets a timer for the deadline in the slice's metadata
#   in SECONDS  moves the timer to SECONDS from now, if that is earlier
#   now         ends the training, deletes the slice, and shuts the host down
set -u

readonly SELF=${RVC_JAX_SELF:-/usr/local/sbin/rvc-jax-deadline}
HOMES=${RVC_JAX_HOMES:-/home}

# attribute NAME: prints a value of the slice's metadata.
attribute() {
  curl --silent --fail --header 'Metadata-Flavor: Google' --max-time 20 --retry 5 \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# arm [SECONDS]: sets the timer to the slice's deadline, or to SECONDS from now if that is earlier.
arm() {
  local deadline left
  deadline=$(attribute rvc-jax-deadline)
  [[ $deadline =~ ^[0-9]+$ ]] || return 0
  left=$((deadline - EPOCHSECONDS))
  ((left < ${1:-left})) || left=${1:-$left}
  systemctl stop rvc-jax-deadline.timer 2>/dev/null
  systemd-run --collect --unit=rvc-jax-deadline --on-active="$((left > 1 ? left : 1))s" "$SELF" now
}

# Asks every training to save and exit, and waits for each, three minutes at most.
end_training() {
  local file process second
  for file in "$HOMES"/*/rvc_jax/train.pid; do
    process=$(cat "$file" 2>/dev/null) && [[ $process =~ ^[1-9][0-9]*$ ]] || continue
    kill -TERM "$process" 2>/dev/null || continue
    for ((second = 0; second < 180; second++)); do
      kill -0 "$process" 2>/dev/null || break
      sleep 1
    done
  done
}

# Deletes the slice. The first host does it at once; the others wait, in case the first one fails.
delete_slice() {
  local name zone
  name=$(attribute rvc-jax-name)
  zone=$(attribute rvc-jax-zone)
  [[ $(attribute agent-worker-number || echo 0) == 0 ]] || sleep "${RVC_JAX_LATER:-600}"
  for _ in 1 2 3 4 5; do
    gcloud compute tpus queued-resources delete "$name" "--zone=$zone" --force --quiet --async && return
    gcloud compute tpus tpu-vm delete "$name" "--zone=$zone" --quiet --async && return
    sleep "${RVC_JAX_RETRY:-60}"
  done
}

case ${1:-start} in
  start)
    [[ $0 -ef $SELF ]] || install -m 755 "$0" "$SELF"
    arm ;;
  in) arm "$2" ;;
  now)
    end_training
    delete_slice
    shutdown -h now ;;
esac
