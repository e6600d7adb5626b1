#!/bin/sh
# What a start or a reload would say about the configuration, without either: lays it out elsewhere and tests it there. Exit
# status 1 when it would be refused, with one line for each mistake; with APIGW_STRICT=true a WARNING is one.
#
#   APIGW_CONFIG_DIR and the other variables   as for stage.sh and check.sh; those that say where things are kept do not count
set -eu
scripts=$(cd "$(dirname "$0")" && pwd)
APIGW_PREFIX=$(mktemp -d)
# of a server with a decision cache, which must be in memory
APIGW_CACHE_DIR=$(mktemp -d /dev/shm/apigw-check.XXXXXX 2>/dev/null || echo "$APIGW_PREFIX/decisions")
trap 'rm -rf "$APIGW_PREFIX" "$APIGW_CACHE_DIR"' EXIT
export APIGW_PREFIX APIGW_CACHE_DIR
unset APIGW_LOG_DIR
# the self-signed certificate that is there, or one that is gone afterwards
[ -s "${APIGW_TLS_DIR:-}/nginx.crt" ] || unset APIGW_TLS_DIR
"$scripts/stage.sh"
"$scripts/check.sh"
