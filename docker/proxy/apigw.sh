#!/bin/sh
# docker compose exec proxy apigw check-config: what a start would say about the files of ./config; changes nothing. Every
# other command of apigw is in the gateway's container.
set -eu
if [ "$*" != check-config ]; then
  echo 'Here is "apigw check-config" alone; the other commands: docker compose exec gateway apigw' >&2
  exit 2
fi
# shellcheck source=docker/proxy/entrypoint.d/39-apigw-resolver.envsh
. /docker-entrypoint.d/39-apigw-resolver.envsh
/usr/share/apigw/nginx/check-config.sh
echo 'A start would use this configuration.'
