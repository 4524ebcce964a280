# What the sub-commands of `tpu` share: messages, options, gcloud. Sourced, not run.
# shellcheck shell=bash disable=SC2034

readonly PREEMPTED=75 # exit code of a step that failed because the slice was taken away

say() { printf 'tpu: %s\n' "$*" >&2; }

# A mistake, or a refusal: one line that says what, where and what to do.
die() {
  say "$*"
  exit 2
}

# --- options -------------------------------------------------------------------------------------------------------

# seconds_of OPTION VALUE: 12h, 90m or 45s in seconds.
seconds_of() {
  [[ $2 =~ ^([1-9][0-9]{0,5})([hms])$ ]] || die "$1 $2: write a time as 12h, 90m or 45s"
  local -A unit=([h]=3600 [m]=60 [s]=1)
  echo $((BASH_REMATCH[1] * unit[${BASH_REMATCH[2]}]))
}

# must_match OPTION VALUE PATTERN HINT
must_match() {
  [[ -n $2 ]] || die "$1 is missing: $4"
  [[ $2 =~ ^$3$ ]] || die "$1 $(printf '%q' "$2") is not possible: $4"
}

check_name() { must_match NAME "$NAME" '[a-z]([a-z0-9-]{0,38}[a-z0-9])?' 'small letters, digits and -, as my-voice'; }
check_zone() { must_match --zone "$ZONE" '[a-z]+-[a-z]+[0-9]+-[a-z]' 'as us-west4-a; docs/gcp.md lists them'; }
check_project() {
  [[ -z $PROJECT ]] ||
    must_match --project "$PROJECT" '([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]' 'the ID of a Google Cloud project'
}
check_type() {
  local sizes='(1|4|8|16|32|64|128|256)'
  must_match --type "$TYPE" "(v5litepod|v6e)-$sizes" 'v5litepod-N or v6e-N with N = 1, 4, 8, 16, 32, 64, 128 or 256'
}
check_kind() { must_match --kind "$KIND" '(on-demand|spot|queued|flex)' 'on-demand, spot, queued or flex'; }
# check_url OPTION VALUE
check_url() {
  must_match "$1" "$2" 'gs://[a-z0-9][a-z0-9._-]+(/[A-Za-z0-9._=+@-]+)+/?' 'a place as gs://bucket/folder'
}

# The machine image that goes with the type.
runtime() {
  if [[ $TYPE == v6e-* ]]; then echo v2-alpha-tpuv6e; else echo v2-alpha-tpuv5-lite; fi
}

# Zones that offer the type to everybody, as Google listed them in 2026.
zones() {
  if [[ $TYPE == v6e-* ]]; then
    echo "us-central1-b, us-east1-d, us-east5-a, us-east5-b, europe-west4-a, asia-northeast1-b"
  else
    echo "us-central1-a, us-south1-a, us-west1-c, us-west4-a, europe-west4-b"
  fi
}

# --- gcloud --------------------------------------------------------------------------------------------------------

exec 3>&1 # where --dry-run prints, also from inside of $(...)

# cloud WORDS...: gcloud with them; --dry-run prints the command instead. A signal ends it and is acted upon at once.
cloud() {
  local -a command=(gcloud "$@" --quiet)
  [[ -z $PROJECT ]] || command+=("--project=$PROJECT")
  if [[ -n $DRY_RUN ]]; then
    show "${command[@]}"
  else
    waited_for "${command[@]}"
  fi
}

# show WORDS...: a command as it could be typed.
show() {
  local line
  line=$(printf '%q ' "$@")
  echo "${line% }" >&3
}

# waited_for COMMAND...: a signal to the script is acted upon at once, not when the command has ended. The command is a
# process group of its own, which ends as a whole: gcloud starts ssh, which would go on.
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

# tpus WORDS...: a command of `gcloud compute tpus` in the zone.
tpus() { cloud compute tpus "$@" "--zone=$ZONE"; }

# pause SECONDS: sleeps; a signal ends it at once.
pause() { [[ -n $DRY_RUN ]] || waited_for sleep "$1"; }

SCRATCH=$(mktemp -d)
readonly SCRATCH
readonly ERRORS=$SCRATCH/errors # of the last command that `quietly` ran

# quietly COMMAND...: keeps what it prints as errors in $ERRORS.
quietly() { "$@" 2>"$ERRORS"; }

errors_say() { grep -qiE "$1" "$ERRORS"; }
last_error() { grep -vE '^[[:space:]]*$' "$ERRORS" | grep -m1 -E 'ERROR|[Ee]rror' || tail -n 1 "$ERRORS"; }

not_found() { errors_say 'NOT_FOUND|not found|was not found'; }

# What Google refused, and what helps, in one line.
explain() {
  local what="$KIND $TYPE in $ZONE" said
  said=$(last_error)
  case $(refusal) in
    quota)
      said=$(grep -oE "TPU[A-Za-z0-9]+|[Ll]imit:? [0-9]+ in (region|zone) [a-z0-9-]+" "$ERRORS" | head -n 2)
      said=${said//$'\n'/ }
      echo "no quota for $what (${said:-quota exceeded}): ask for more at IAM & Admin > Quotas of the console, take" \
        "another zone or --kind, or delete requests that are left over (spot has a quota of its own)" ;;
    capacity)
      echo "no $TYPE is free in $ZONE now: try another zone ($(zones)), --kind spot or flex, or wait in the queue" \
        "with --kind queued --queue-for 6h" ;;
    exists) echo "$NAME exists already in $ZONE: take another name, or \`tpu delete $NAME --zone $ZONE\`" ;;
    disabled) echo "the TPU API is off in this project: gcloud services enable tpu.googleapis.com, and wait a minute" ;;
    login) echo "gcloud is not logged in: gcloud auth login" ;;
    project) echo "gcloud knows no project: give --project, or gcloud config set project ID" ;;
    zone) echo "$ZONE has no $TYPE: try $(zones)" ;;
    rights) echo "not allowed in $ZONE: you need roles/tpu.admin and roles/iam.serviceAccountUser (${said:0:200})" ;;
    network) echo "Google can't be reached (${said:0:200}): look at the network, then try again" ;;
    *) echo "Google refused $what: ${said:0:300}" ;;
  esac
}

# The kind of the refusal in $ERRORS: the first whose words are there.
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
