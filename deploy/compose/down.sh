#!/usr/bin/env bash
# Takes down what up.sh made; the volumes with results stay unless asked.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin compose "$@"
needs tidesight docker
ask "This stops all services of $NAME on this machine."
if [ "$delete_results" = yes ]; then
  run docker compose -f "$here/compose.yaml" down --volumes
else
  run docker compose -f "$here/compose.yaml" down
fi
