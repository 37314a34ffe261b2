#!/usr/bin/env bash
# From nothing to App Engine, the standard environment. Not run against the real cloud here: that takes an account.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin app-engine-standard "$@"
needs tidesight gcloud python3 curl
say_costs
enable_services appengine.googleapis.com cloudbuild.googleapis.com
account_and_bucket

step "Application; its region can never be changed"
unless_there gcloud app describe --project "$PROJECT" -- gcloud app create --project "$PROJECT" --region "$REGION"

step "Service"
render
run python3 -m pip wheel --quiet --no-deps --wheel-dir "$rendered" "$root"
run gcloud app deploy "$rendered/app.yaml" --project "$PROJECT" --quiet

url=https://ADDRESS
if [ "$dry_run" = no ]; then
  url=https://$(gcloud app describe --project "$PROJECT" --format 'value(defaultHostname)')
fi
smoke_test "$url"
