#!/usr/bin/env bash
# From nothing to a service on GKE Autopilot. Not run against the real cloud here: that takes an account.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin gke "$@"
needs tidesight gcloud kubectl curl
say_costs
enable_services container.googleapis.com monitoring.googleapis.com
build_and_push
account_and_bucket

step "Cluster; ten minutes the first time"
unless_there gcloud container clusters describe "$NAME" --project "$PROJECT" --region "$REGION" -- \
  gcloud container clusters create-auto "$NAME" --project "$PROJECT" --region "$REGION"
run gcloud container clusters get-credentials "$NAME" --project "$PROJECT" --region "$REGION"

step "The pods' account may act as the instances' account"
run gcloud iam service-accounts add-iam-policy-binding "$ACCOUNT" --project "$PROJECT" \
  --role roles/iam.workloadIdentityUser --member "serviceAccount:$PROJECT.svc.id.goog[$NAMESPACE/$NAME]"

step "Service"
render
run kubectl apply -k "$rendered"
run kubectl --namespace "$NAMESPACE" rollout status "deployment/$NAME" --timeout 10m
run kubectl --namespace "$NAMESPACE" wait "gateway/$NAME" --for condition=Programmed --timeout 15m

address=ADDRESS
if [ "$dry_run" = no ]; then
  address=$(kubectl --namespace "$NAMESPACE" get "gateway/$NAME" -o 'jsonpath={.status.addresses[0].value}')
fi
smoke_test "http://$address"
