#!/bin/sh
# Stops the start, with one sentence for each mistake, when that must not be used.
set -eu
exec /usr/share/apigw/nginx/check.sh
