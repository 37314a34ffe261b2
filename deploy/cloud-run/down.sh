#!/usr/bin/env bash
# Takes down what up.sh made; results and images stay unless asked. Not run against the real cloud here.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin cloud-run "$@"
needs tidesight gcloud
ask "This deletes the Cloud Run service $NAME in $PROJECT, $REGION."
run gcloud run services delete "$NAME" --project "$PROJECT" --region "$REGION" --quiet
remove_account_and_bucket
