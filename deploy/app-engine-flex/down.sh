#!/usr/bin/env bash
# Stops what up.sh made: an application cannot be deleted, but a disabled one costs nothing. Not run against the cloud.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin app-engine-flex "$@"
needs tidesight gcloud
ask "This stops every service of the App Engine application of $PROJECT, not $NAME alone."
run gcloud app update --project "$PROJECT" --serving-status user_disabled --quiet
remove_account_and_bucket
