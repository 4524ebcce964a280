# Functions for a slice: request it, query its state, run commands on its hosts, delete it. `tpu`
# sources this file.
# shellcheck shell=bash disable=SC2034

readonly SCOPE=https://www.googleapis.com/auth/cloud-platform
readonly DELETE_TRIES=6

# Prints the state of the slice, or of its request while the slice does not exist: absent, waiting,
# ready, preempted, failed or unreachable.
slice_state() {
  local state
  if [[ -n $DRY_RUN ]]; then
    tpus tpu-vm describe "$NAME" '--format=value(state)'
    echo ready
    return
  fi
  if ! state=$(quietly tpus tpu-vm describe "$NAME" '--format=value(state)'); then
    if not_found; then request_state; else echo unreachable; fi
    return
  fi
  case $state in
    READY) echo ready ;;
    PREEMPTED | TERMINATED | STOPPING | STOPPED | DELETING) echo preempted ;;
    *) echo waiting ;;
  esac
}

# Prints the state of the queued request: absent, waiting, preempted, failed or unreachable.
request_state() {
  local state
  if ! state=$(quietly tpus queued-resources describe "$NAME" '--format=value(state.state)'); then
    if not_found; then echo absent; else echo unreachable; fi
    return
  fi
  case $state in
    SUSPENDING | SUSPENDED | DELETING) echo preempted ;;
    FAILED) echo failed ;;
    *) echo waiting ;;
  esac
}

# Requests the slice and waits until it is ready. Its hosts set their own deadline at boot.
create_slice() {
  local -a request=("--accelerator-type=$TYPE" "--scopes=$SCOPE" --labels=rvc-jax=launch
    "--metadata=rvc-jax-name=$NAME,rvc-jax-zone=$ZONE,rvc-jax-deadline=$((DEADLINE + 600))"
    "--metadata-from-file=startup-script=$HERE/deadline.sh")
  [[ -z $SERVICE_ACCOUNT ]] || request+=("--service-account=$SERVICE_ACCOUNT")
  say "requesting $TYPE ($KIND) in $ZONE; it deletes itself at $(printf '%(%F %T)T' $((DEADLINE + 600)))"
  if [[ $KIND == on-demand ]]; then
    quietly tpus tpu-vm create "$NAME" "--version=$(runtime)" "${request[@]}" || refused
    return 0
  fi
  request+=("--node-id=$NAME" "--runtime-version=$(runtime)" "--valid-until-duration=${QUEUE_SECONDS}s")
  case $KIND in
    spot) quietly tpus queued-resources create "$NAME" "${request[@]}" --spot || refused ;;
    queued) quietly tpus queued-resources create "$NAME" "${request[@]}" || refused ;;
    flex)
      # Google ends flex slices after this time; the other kinds lack the option.
      request+=(--provisioning-model=flex-start "--max-run-duration=$((DEADLINE + 600 - EPOCHSECONDS))s")
      quietly cloud alpha compute tpus queued-resources create "$NAME" "${request[@]}" "--zone=$ZONE" || refused ;;
  esac
  await_slice
}

# Explains why Google refused the request, and exits. A slice that already existed under this name
# does not belong to this script, so `finish` must not delete it.
refused() {
  [[ $(refusal) != exists ]] || OURS=
  die "$(explain)"
}

# Waits until the slice is ready. Returns $PREEMPTED if Google preempts it first.
await_slice() {
  local until=$((EPOCHSECONDS + QUEUE_SECONDS + 900)) state before=
  ((until < DEADLINE)) || until=$DEADLINE
  while true; do
    state=$(slice_state)
    case $state in
      ready) return 0 ;;
      failed)
        quietly why_failed || true
        [[ -s $ERRORS ]] || echo "there is no more capacity" >"$ERRORS"
        die "$(explain)" ;;
      preempted) return "$PREEMPTED" ;;
      absent) die "the request for $NAME in $ZONE no longer exists: somebody deleted it" ;;
    esac
    [[ $state == "$before" ]] || say "$NAME: $state"
    before=$state
    ((EPOCHSECONDS < until)) ||
      die "no $TYPE came in $ZONE within $QUEUE_FOR: try another zone ($(zones)), or a longer --queue-for"
    pause "$POLL_SECONDS"
  done
}

# Prints Google's reason to standard error.
why_failed() { tpus queued-resources describe "$NAME" '--format=value(state.failedData.error.message)' >&2; }

# on_hosts WHICH WORDS...: runs rvc_jax_host.sh with these arguments on the hosts of the slice.
# WHICH: all, or the number of one host.
on_hosts() {
  local which=$1 line
  shift
  line=$(printf '%q ' bash rvc_jax_host.sh "$@")
  tpus tpu-vm ssh "$NAME" "--worker=$which" "--command=${line% }"
}

# copy_to_hosts FILES...: copies the files to the home folder of every host.
copy_to_hosts() { tpus tpu-vm scp "$@" "$NAME:" --worker=all; }

# step WHAT COMMAND...: runs the command. If it fails, returns $PREEMPTED when the slice is gone;
# otherwise exits with a message that names WHAT.
step() {
  local what=$1
  shift
  ! "$@" || return 0
  case $(slice_state) in
    preempted | absent | failed) return "$PREEMPTED" ;;
    *) die "$what failed on $NAME in $ZONE: the error is shown above" ;;
  esac
}

# Deletes the slice, with retries. Returns 1 if the slice may still exist.
delete_slice() {
  local try
  for ((try = 1; try <= DELETE_TRIES; try++)); do
    if delete_once; then
      [[ -n $DRY_RUN || -n $DELETED ]] || say "there is nothing called $NAME in $ZONE"
      [[ -n $DRY_RUN || -z $DELETED ]] || say "deleted $NAME in $ZONE"
      return 0
    fi
    say "deleting $NAME failed ($(last_error))$( ((try == DELETE_TRIES)) || echo '; trying again')"
    ((try == DELETE_TRIES)) || pause $((RETRY_SECONDS * try))
  done
  say "$NAME MAY STILL BE RUNNING, AND COSTS MONEY: tpu delete $NAME --zone $ZONE, or delete it in the console"
  return 1
}

# Deletes the queued request with its slice, or a slice without a request. Succeeds if neither
# exists; DELETED is then empty.
delete_once() {
  DELETED=yes
  if quietly tpus queued-resources delete "$NAME" --force; then
    [[ -n $DRY_RUN ]] || return 0
  elif ! not_found; then return 1; fi
  ! quietly tpus tpu-vm delete "$NAME" || return 0
  DELETED=
  not_found
}
