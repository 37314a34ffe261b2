#!/usr/bin/env bash
# Instances, a front, Prometheus and Grafana on this machine, with Docker. Not run here: it fetches images.
# shellcheck source=../steps.sh
source "$(dirname "$0")/../steps.sh"
begin compose "$@"
needs tidesight docker curl
ask "This builds $IMAGE and starts it with Envoy, Prometheus and Grafana, whose images Docker fetches. It costs nothing."
step "Image"
run docker build -f "$root/deploy/Dockerfile" --build-arg "VERSION=${IMAGE##*:}" -t "$IMAGE" "$root"
step "Services"
run docker compose -f "$here/compose.yaml" up --detach --scale tidesight="${INSTANCES:-2}"
smoke_test http://127.0.0.1:8080
echo "Grafana: http://127.0.0.1:3000, Prometheus: http://127.0.0.1:9090"
