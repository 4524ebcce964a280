#!/usr/bin/env bash
# Installs the package, starts a training, and reports its state. `tpu` runs this script on the
# hosts of a slice, in the user's home folder.
set -euo pipefail

readonly BASE=$HOME/rvc_jax
readonly PYTHON=$BASE/venv/bin/python
mkdir -p "$BASE"

fail() {
  printf '%s: %s\n' "$(hostname)" "$*" >&2
  exit 1
}

# Creates the virtual environment, with a supported Python from the distribution, or one that uv
# downloads.
make_environment() {
  local version
  for version in 3.13 3.12 3.11; do
    if "python$version" -c 'import ensurepip, venv' 2>/dev/null; then
      "python$version" -m venv --clear "$BASE/venv"
      return
    fi
  done
  python3 -m pip install --quiet --user uv || fail "uv can't be installed; Python 3.11 or newer is needed"
  python3 -m uv venv --quiet --clear --seed --python 3.12 "$BASE/venv"
}

# install FILE: installs the package from an archive or a wheel in the home folder, unless this file
# is installed already.
install() {
  local file=$HOME/$1 sum
  sum=$(sha256sum <"$file")
  if [[ -x $PYTHON && $(cat "$BASE/installed" 2>/dev/null) == "$sum" ]]; then
    echo "$(hostname): installed already"
    return
  fi
  [[ -x $PYTHON ]] || make_environment
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --upgrade "rvc_jax[tpu,cloud] @ file://$file"
  "$PYTHON" -c 'import rvc_jax'
  echo "$sum" >"$BASE/installed"
  echo "$(hostname): installed"
}

# is_alive NAME: whether the process whose ID is in the file runs.
is_alive() { [[ -s $BASE/$1.pid ]] && kill -0 "$(cat "$BASE/$1.pid")" 2>/dev/null; }
is_running() { is_alive train; }

# start LINGER OPTIONS...: starts the training in its own session, which outlives the connection.
# LINGER: seconds from the end of the training until the slice deletes itself; 0 keeps the slice.
start() {
  [[ -x $PYTHON ]] || fail "nothing is installed here: run \`tpu setup\`"
  ! is_running || fail "a training runs here already: see \`tpu logs\`, or \`tpu stop\`"
  rm -f "$BASE/train.code" "$BASE/train.pid" "$BASE/session.pid"
  setsid nohup bash "$0" session "$@" >>"$BASE/train.log" 2>&1 </dev/null &
  local try
  for ((try = 0; try < 100; try++)); do
    if [[ -s $BASE/train.pid ]]; then
      echo "$(hostname): started"
      return
    fi
    sleep 0.1
  done
  fail "the training did not start: see \`tpu logs\`"
}

# write FILE TEXT: replaces a file at once, so nobody reads half of it.
write() {
  echo "$2" >"$1.new"
  mv "$1.new" "$1"
}

# session LINGER OPTIONS...: trains, and records the process ID and the exit code.
session() {
  local linger=$1 code=0
  shift
  cd "$BASE"
  write session.pid $$
  "$PYTHON" -m rvc_jax train "$@" &
  write train.pid $!
  wait $! || code=$?
  write train.code "$code"
  if ((linger > 0)); then sudo -n /usr/local/sbin/rvc-jax-deadline in "$linger" || true; fi
}

# Prints one line: running, ended CODE, or gone (the machine is shutting down, or has rebooted).
state() {
  local try
  # Between the end of the training and its exit code, nothing is known yet.
  for ((try = 0; try < 100; try++)); do
    if [[ -s $BASE/train.code ]] || is_running || ! is_alive session; then break; fi
    sleep 0.1
  done
  if [[ $(systemctl is-system-running 2>/dev/null) == stopping ]]; then
    echo "training: gone"
  elif is_running; then
    echo "training: running"
  elif [[ -s $BASE/train.code ]]; then
    echo "training: ended $(cat "$BASE/train.code")"
  else
    echo "training: gone"
  fi
}

# Asks the training to save and exit, waits for it, three minutes at most, and prints the state.
stop() {
  ! is_running || kill -TERM "$(cat "$BASE/train.pid")"
  local second
  for ((second = 0; second < 180; second++)); do
    is_running || break
    sleep 1
  done
  state
}

case $1 in
  install) install "$2" ;;
  start) start "${@:2}" ;;
  session) session "${@:2}" ;;
  state) state ;;
  stop) stop ;;
  logs) exec tail -n "$2" -F "$BASE/train.log" ;;
  tail) tail -n "$2" "$BASE/train.log" 2>/dev/null || true ;;
  # One host of several can't use the slice's chips, so the export runs on the CPU.
  export) JAX_PLATFORMS=cpu "$PYTHON" -m rvc_jax export "${@:2}" ;;
  *) fail "unknown command: $1" ;;
esac
