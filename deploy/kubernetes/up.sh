#!/usr/bin/env bash
# A service on the cluster that kubectl's current context names. Not run against a cluster here.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin kubernetes "$@"
needs tidesight kubectl curl
ask "This applies $NAME to the namespace $NAMESPACE of kubectl's current context; the image $IMAGE must be there."
render
step "Service"
run kubectl apply -k "$rendered"
run kubectl --namespace "$NAMESPACE" rollout status "deployment/$NAME" --timeout 10m

step "A way to it from here"
if [ "$dry_run" = no ]; then
  kubectl --namespace "$NAMESPACE" port-forward "service/$NAME" 18080:80 >/dev/null &
  forward=$!
  trap 'kill "$forward" 2>/dev/null; rm -rf "$rendered"' EXIT
fi
smoke_test http://127.0.0.1:18080
