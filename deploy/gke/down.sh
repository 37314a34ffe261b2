#!/usr/bin/env bash
# Takes down what up.sh made; results and images stay unless asked. Not run against the real cloud here.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin gke "$@"
needs tidesight gcloud kubectl
ask "This deletes the cluster $NAME in $PROJECT, $REGION, with all that is in it."

step "The load balancer first: without its cluster nobody would remove it"
run gcloud container clusters get-credentials "$NAME" --project "$PROJECT" --region "$REGION"
run kubectl --namespace "$NAMESPACE" delete "gateway/$NAME" --ignore-not-found --wait
run gcloud container clusters delete "$NAME" --project "$PROJECT" --region "$REGION" --quiet
remove_account_and_bucket
