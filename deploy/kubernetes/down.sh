#!/usr/bin/env bash
# Takes down what up.sh made.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin kubernetes "$@"
needs tidesight kubectl
ask "This deletes $NAME from the namespace $NAMESPACE of kubectl's current context, and the namespace."
render
run kubectl delete -k "$rendered" --ignore-not-found
