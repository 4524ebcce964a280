# Functions that the commands of `tpu` share: messages, options, gcloud. `tpu` sources this file.
# shellcheck shell=bash disable=SC2034

readonly PREEMPTED=75 # exit code of a step that failed because Google preempted the slice

say() { printf 'tpu: %s\n' "$*" >&2; }

# die MESSAGE...: prints one line that says what is wrong, where, and what to do; exits with code 2.
die() {
  say "$*"
  exit 2
}

# --- options --------------------------------------------------------------------------------------

# seconds_of OPTION VALUE: converts a time such as 12h, 90m or 45s to seconds.
seconds_of() {
  [[ $2 =~ ^([1-9][0-9]{0,5})([hms])$ ]] || die "$1 $2: write a time such as 12h, 90m or 45s"
  local -A unit=([h]=3600 [m]=60 [s]=1)
  echo $((BASH_REMATCH[1] * unit[${BASH_REMATCH[2]}]))
}

# must_match OPTION VALUE PATTERN HINT: exits unless the whole value matches the pattern.
must_match() {
  [[ -n $2 ]] || die "$1 is missing: $4"
  [[ $2 =~ ^$3$ ]] || die "$1 $(printf '%q' "$2") is not valid: $4"
}

check_name() { must_match NAME "$NAME" '[a-z]([a-z0-9-]{0,38}[a-z0-9])?' 'lowercase letters, digits and -, such as my-voice'; }
check_zone() { must_match --zone "$ZONE" '[a-z]+-[a-z]+[0-9]+-[a-z]' 'a zone such as us-west4-a; docs/gcp.md lists them'; }
check_project() {
  [[ -z $PROJECT ]] ||
    must_match --project "$PROJECT" '([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]' 'the ID of a Google Cloud project'
}
check_type() {
  local sizes='(1|4|8|16|32|64|128|256)'
  must_match --type "$TYPE" "(v5litepod|v6e)-$sizes" 'v5litepod-N or v6e-N with N = 1, 4, 8, 16, 32, 64, 128 or 256'
}
check_kind() { must_match --kind "$KIND" '(on-demand|spot|queued|flex)' 'on-demand, spot, queued or flex'; }
# check_url OPTION VALUE: the value must be a folder in a bucket.
check_url() {
  must_match "$1" "$2" 'gs://[a-z0-9][a-z0-9._-]+(/[A-Za-z0-9._=+@-]+)+/?' 'a folder such as gs://bucket/folder'
}

# Prints the runtime version (the machine image) for the type.
runtime() {
  if [[ $TYPE == v6e-* ]]; then echo v2-alpha-tpuv6e; else echo v2-alpha-tpuv5-lite; fi
}

# Prints the zones that offer the type to everybody, as Google listed them in 2026.
zones() {
  if [[ $TYPE == v6e-* ]]; then
    echo "us-central1-b, us-east1-d, us-east5-a, us-east5-b, europe-west4-a, asia-northeast1-b"
  else
    echo "us-central1-a, us-south1-a, us-west1-c, us-west4-a, europe-west4-b"
  fi
}

# --- gcloud ---------------------------------------------------------------------------------------

exec 3>&1 # --dry-run prints to this descriptor, even inside $(...)

# cloud WORDS...: runs gcloud with these arguments; with --dry-run, prints the command instead. A
# signal ends the command and is handled at once.
cloud() {
  local -a command=(gcloud "$@" --quiet)
  [[ -z $PROJECT ]] || command+=("--project=$PROJECT")
  if [[ -n $DRY_RUN ]]; then
    show "${command[@]}"
  else
    waited_for "${command[@]}"
  fi
}

# show WORDS...: prints a command as it could be typed in a shell.
show() {
  local line
  line=$(printf '%q ' "$@")
  echo "${line% }" >&3
}

# waited_for COMMAND...: runs the command; a signal to the script is handled at once, not after the
# command has ended. The command has its own process group, so that `finish` can end all of it:
# gcloud starts ssh, which would otherwise keep running.
waited_for() {
  local code=0
  set -m
  "$@" </dev/null &
  CHILD=$!
  set +m
  wait "$CHILD" || code=$?
  CHILD=
  return "$code"
}

# tpus WORDS...: runs `gcloud compute tpus` with these arguments in the zone.
tpus() { cloud compute tpus "$@" "--zone=$ZONE"; }

# pause SECONDS: sleeps; a signal ends the sleep at once.
pause() { [[ -n $DRY_RUN ]] || waited_for sleep "$1"; }

SCRATCH=$(mktemp -d)
readonly SCRATCH
readonly ERRORS=$SCRATCH/errors # standard error of the last command that `quietly` ran

# quietly COMMAND...: runs the command and writes its standard error to $ERRORS.
quietly() { "$@" 2>"$ERRORS"; }

errors_say() { grep -qiE "$1" "$ERRORS"; }
last_error() { grep -vE '^[[:space:]]*$' "$ERRORS" | grep -m1 -E 'ERROR|[Ee]rror' || tail -n 1 "$ERRORS"; }

not_found() { errors_say 'NOT_FOUND|not found|was not found'; }

# Prints one line: what Google refused, and how to fix it.
explain() {
  local what="$KIND $TYPE in $ZONE" said
  said=$(last_error)
  case $(refusal) in
    quota)
      said=$(grep -oE "TPU[A-Za-z0-9]+|[Ll]imit:? [0-9]+ in (region|zone) [a-z0-9-]+" "$ERRORS" | head -n 2)
      said=${said//$'\n'/ }
      echo "no quota for $what (${said:-quota exceeded}): request more under IAM & Admin > Quotas in the console, use" \
        "another zone or --kind, or delete leftover requests (spot has its own quota)" ;;
    capacity)
      echo "no $TYPE is free in $ZONE now: try another zone ($(zones)), --kind spot or flex, or wait in the queue" \
        "with --kind queued --queue-for 6h" ;;
    exists) echo "$NAME exists already in $ZONE: choose another name, or \`tpu delete $NAME --zone $ZONE\`" ;;
    disabled) echo "the TPU API is off in this project: gcloud services enable tpu.googleapis.com, and wait a minute" ;;
    login) echo "gcloud is not logged in: gcloud auth login" ;;
    project) echo "gcloud has no default project: pass --project, or gcloud config set project ID" ;;
    zone) echo "$ZONE has no $TYPE: try $(zones)" ;;
    rights) echo "not allowed in $ZONE: you need roles/tpu.admin and roles/iam.serviceAccountUser (${said:0:200})" ;;
    network) echo "Google can't be reached (${said:0:200}): look at the network, then try again" ;;
    *) echo "Google refused $what: ${said:0:300}" ;;
  esac
}

# Prints the kind of the refusal in $ERRORS: the first one whose pattern matches.
refusal() {
  local -a words=(
    quota 'quota'
    capacity 'no more capacity|insufficient (reserved )?capacity|stockout|RESOURCE_EXHAUSTED|not enough resources'
    exists 'ALREADY_EXISTS|already exists'
    disabled 'SERVICE_DISABLED|has not been used in project|API .*not enabled'
    login 'active account|reauthentication|invalid_grant'
    project 'required property \[project\]|\[project\] is not'
    zone 'accelerator.?type.*(not found|not available|invalid|unknown)|location .*(not found|unsupported)|invalid.*zone'
    rights 'PERMISSION_DENIED|permission .*denied|forbidden|403'
    network 'unreachable|timed? ?out|connection|resolve|network|UNAVAILABLE|503')
  local i
  for ((i = 0; i < ${#words[@]}; i += 2)); do
    if errors_say "${words[i + 1]}"; then
      echo "${words[i]}"
      return
    fi
  done
  echo other
}
