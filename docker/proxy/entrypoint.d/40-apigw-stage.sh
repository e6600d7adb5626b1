#!/bin/sh
# Lays out what nginx is to run with: our files, the operator's in place of those that are present, a certificate.
set -eu
exec /usr/share/apigw/nginx/stage.sh
