#!/bin/sh
# docker compose exec proxy reload
set -eu
# shellcheck source=docker/proxy/entrypoint.d/39-apigw-resolver.envsh
. /docker-entrypoint.d/39-apigw-resolver.envsh
exec /usr/share/apigw/nginx/reload.sh
