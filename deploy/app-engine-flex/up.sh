#!/usr/bin/env bash
# From nothing to App Engine, the flexible environment. Not run against the real cloud here: that takes an account.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin app-engine-flex "$@"
needs tidesight gcloud curl
say_costs
enable_services appengine.googleapis.com appengineflex.googleapis.com
build_and_push
account_and_bucket

step "The account may write logs and pull the image"
for role in roles/logging.logWriter roles/monitoring.metricWriter roles/artifactregistry.reader; do
  run gcloud projects add-iam-policy-binding "$PROJECT" --member "serviceAccount:$ACCOUNT" --role "$role" --condition None
done
step "Application; its region can never be changed"
unless_there gcloud app describe --project "$PROJECT" -- gcloud app create --project "$PROJECT" --region "$REGION"

step "Service"
render
run gcloud app deploy "$rendered/app.yaml" --project "$PROJECT" --quiet --image-url "$IMAGE"

url=https://ADDRESS
if [ "$dry_run" = no ]; then
  url=https://$(gcloud app describe --project "$PROJECT" --format 'value(defaultHostname)')
fi
smoke_test "$url"
