# shellcheck shell=bash
# What the scripts in the folders beside this file share; they source it. See docs/guides/deploy.md.

set -euo pipefail

dry_run=no
assume_yes=no
delete_results=no
config=""
picture=""
key_file=""

usage() {
  echo "usage: ${0##*/} [--config FILE] [--picture FILE] [--api-key-file FILE] [--dry-run] [--yes] [--delete-results]"
  echo
  echo "  --config FILE      the file with the [deploy] table (default: tidesight.toml above this script)"
  echo "  --picture FILE     a photograph for the first request of up.sh"
  echo "  --api-key-file FILE  an API key for it, on the first line"
  echo "  --dry-run          print the commands, run none"
  echo "  --yes              do not ask"
  echo "  --delete-results   down.sh: delete the bucket with the results too"
}

# begin TARGET "$@": reads the options, then the names in the settings file.
begin() {
  target=$1
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      --config) config=${2:?--config needs a file}; shift ;;
      --picture) picture=${2:?--picture needs a file}; shift ;;
      --api-key-file) key_file=${2:?--api-key-file needs a file}; shift ;;
      --dry-run) dry_run=yes ;;
      --yes) assume_yes=yes ;;
      --delete-results) delete_results=yes ;;
      -h | --help) usage; exit 0 ;;
      *) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  here=$(cd "$(dirname "$0")" && pwd)
  root=$(cd "$here/../.." && pwd)
  if [ -z "$config" ]; then
    if [ -e "$here/tidesight.toml" ]; then config=$here/tidesight.toml; else config=$here/../tidesight.toml; fi
  fi
  if [ -n "$picture" ] && [ ! -r "$picture" ]; then echo "there is no picture $picture" >&2; exit 2; fi
  if [ -n "$key_file" ] && [ ! -r "$key_file" ]; then echo "there is no key file $key_file" >&2; exit 2; fi
  local values
  values=$(tidesight deploy values --target "$target" --config "$config") || exit $?
  eval "$values"
  rendered=$(mktemp -d)
  trap 'rm -rf "$rendered"' EXIT
}

# needs PROGRAM...: refuses to begin without them.
needs() {
  [ "$dry_run" = yes ] && return
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || { echo "$program is needed and not installed" >&2; exit 1; }
  done
}

step() { printf '\n# %s\n' "$*"; }

# Prints a command and runs it; --dry-run only prints it.
run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  if [ "$dry_run" = no ]; then "$@"; fi
}

# unless_there CHECK... -- MAKE...: makes what the check does not find.
unless_there() {
  local check=()
  while [ "$1" != -- ]; do check+=("$1"); shift; done
  shift
  if [ "$dry_run" = no ] && "${check[@]}" >/dev/null 2>&1; then
    echo "is there: ${*:1:5}"
  else
    run "$@"
  fi
}

# ask QUESTION: goes on with yes alone.
ask() {
  echo "$1"
  if [ "$assume_yes" = yes ] || [ "$dry_run" = yes ]; then return; fi
  local answer
  read -r -p "Go on? [y/N] " answer || answer=no
  [ "$answer" = y ] || { echo "nothing was done"; exit 1; }
}

say_costs() {
  ask "Project $PROJECT, region $REGION: about $COST for instances (fewest and idle, to $MAX_INSTANCES and busy), by the
dated prices of 'tidesight platforms'. Network, load balancer, logs, images and stored results come on top."
}

render() { run tidesight deploy render --target "$target" --config "$config" --out "$rendered"; }

enable_services() {
  step "Services of the project"
  run gcloud services enable --project "$PROJECT" artifactregistry.googleapis.com storage.googleapis.com \
    iam.googleapis.com "$@"
}

build_and_push() {
  local tool=docker host=${IMAGE%%/*} repository
  if [ "$dry_run" = no ] && ! command -v docker >/dev/null; then tool=podman; fi
  needs "$tool"
  repository=$(cut -d/ -f3 <<<"$IMAGE")
  step "Image"
  if [[ $IMAGE == *-docker.pkg.dev/*/*/* ]]; then # a registry of somebody else is theirs to set up
    unless_there gcloud artifacts repositories describe "$repository" --project "$PROJECT" --location "$REGION" -- \
      gcloud artifacts repositories create "$repository" --project "$PROJECT" --location "$REGION" \
      --repository-format docker
    run gcloud auth configure-docker --quiet "$host"
  fi
  run "$tool" build -f "$root/deploy/Dockerfile" --build-arg "VERSION=${IMAGE##*:}" -t "$IMAGE" "$root"
  run "$tool" push "$IMAGE"
}

account_and_bucket() {
  step "Account of the instances, with the least rights, and the bucket for results"
  local name=${ACCOUNT%%@*}
  unless_there gcloud iam service-accounts describe "$ACCOUNT" --project "$PROJECT" -- \
    gcloud iam service-accounts create "$name" --project "$PROJECT" --display-name "Instances of ${NAME:?}"
  [ -n "$BUCKET" ] || return 0
  unless_there gcloud storage buckets describe "gs://$BUCKET" --project "$PROJECT" -- \
    gcloud storage buckets create "gs://$BUCKET" --project "$PROJECT" --location "$REGION" \
    --uniform-bucket-level-access --public-access-prevention
  run gcloud storage buckets add-iam-policy-binding "gs://$BUCKET" --member "serviceAccount:$ACCOUNT" \
    --role roles/storage.objectUser
}

# smoke_test URL [CURL OPTION...]: a first picture; without one, readiness.
smoke_test() {
  local url=$1
  shift
  step "First request"
  local retried=(--fail-with-body --silent --show-error --retry 30 --retry-delay 2 --retry-all-errors)
  if [ -n "$key_file" ]; then # in a file, so that the key is in no list of processes and on no screen
    printf 'X-API-Key: %s\n' "$(head -n 1 "$key_file")" >"$rendered/key"
    set -- "$@" -H "@$rendered/key"
  fi
  run curl "${retried[@]}" "$@" "$url/readyz"
  if [ -n "$picture" ]; then
    run curl "${retried[@]}" "$@" --data-binary "@$picture" -H "Content-Type: $(kind_of "$picture")" "$url/v1/detect"
  else
    echo "no picture was sent; send one with --picture FILE"
  fi
}

kind_of() {
  case $1 in
    *.png) echo image/png ;;
    *.webp) echo image/webp ;;
    *) echo image/jpeg ;;
  esac
}

remove_account_and_bucket() {
  step "Account and bucket"
  if [ "$delete_results" = yes ] && [ -n "$BUCKET" ]; then
    run gcloud storage rm --recursive "gs://$BUCKET"
  elif [ -n "$BUCKET" ]; then
    echo "gs://$BUCKET stays; --delete-results deletes it with all results"
  fi
  run gcloud iam service-accounts delete "$ACCOUNT" --project "$PROJECT" --quiet
  echo "the images in ${IMAGE%:*} stay"
}
