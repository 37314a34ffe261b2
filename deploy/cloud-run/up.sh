#!/usr/bin/env bash
# From nothing to a service on Cloud Run. Not run against the real cloud here: that takes an account.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin cloud-run "$@"
needs tidesight gcloud curl
say_costs
enable_services run.googleapis.com
build_and_push
account_and_bucket
if [ -n "$KEYS_SECRET" ]; then
  step "The account may read the keys"
  run gcloud secrets add-iam-policy-binding "$KEYS_SECRET" --project "$PROJECT" \
    --member "serviceAccount:$ACCOUNT" --role roles/secretmanager.secretAccessor
fi

step "Service"
render
run gcloud run services replace "$rendered/service.yaml" --project "$PROJECT" --region "$REGION"

url=https://ADDRESS token=TOKEN
if [ "$dry_run" = no ]; then
  url=$(gcloud run services describe "$NAME" --project "$PROJECT" --region "$REGION" --format 'value(status.url)')
  token=$(gcloud auth print-identity-token)
fi
# The token in a file: as an argument it would be in the list of processes.
printf 'header = "Authorization: Bearer %s"\n' "$token" >"$rendered/curl"
smoke_test "$url" --config "$rendered/curl"
