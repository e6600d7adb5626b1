#!/bin/sh
# Puts changed files into use without dropping a request, and returns when they are. When something is wrong it says so
# and exits with 1; nginx then goes on with the configuration from before.
#
#   APIGW_PREFIX and the other variables   as for stage.sh
set -eu
scripts=$(cd "$(dirname "$0")" && pwd)

keep() {
  echo 'The configuration from before stays in use.' >&2
  exit 1
}

# The workers that take new connections: those of the old configuration may live on for a while, for what is under way.
accepting() {
  read -r children <"/proc/$master/task/$master/children" || true
  for worker in $children; do
    title=
    { read -r title <"/proc/$worker/cmdline"; } 2>/dev/null || true
    case $title in *'shutting down'*) ;; *) echo "$worker" ;; esac
  done
}

# one after the other: a hook of a certificate's renewal and a person may come at the same time
exec 9>"${APIGW_PREFIX:?}/reload.lock"
flock 9

"$scripts/stage.sh" running || keep
"$scripts/check.sh" || keep
master=$(cat "$APIGW_PREFIX/nginx.pid")
before=" $(accepting | tr '\n' ' ')"
kill -HUP "$master"
# for 2 s every 50 ms, then for 8 s at leisure
attempt=0
while [ "$attempt" -lt 72 ]; do
  if [ "$attempt" -lt 40 ]; then sleep 0.05; else sleep 0.25; fi
  attempt=$((attempt + 1))
  now=$(accepting)
  [ -n "$now" ] || continue
  for worker in $now; do
    case $before in *" $worker "*) continue 2 ;; esac
  done
  echo 'The configuration is in use.'
  exit 0
done
# such as an address that is taken: a restart must not meet it
rm -rf "$APIGW_PREFIX/refused"
mv "$APIGW_PREFIX/current" "$APIGW_PREFIX/refused"
mv "$APIGW_PREFIX/before" "$APIGW_PREFIX/current"
echo "nginx has not taken the configuration; its error.log says why." >&2
keep
