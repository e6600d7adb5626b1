#!/bin/sh
# Tests what stage.sh has laid out, as nginx does (nginx -t) and for what nginx takes and the gateway cannot stand behind
# (conf-guard.awk), and makes it the configuration that nginx is run with: $APIGW_PREFIX/current. When it is refused nothing
# changes; exit status 1, and one line for each mistake, with the operator's own file and line.
#
#   APIGW_PREFIX, APIGW_CONFIG_DIR, APIGW_NGINX   as for stage.sh
#   APIGW_STRICT   true: what is a WARNING of conf-guard.awk else is refused as well; or false   (false)
set -eu
# what nginx -T prints has everything that the operator's files have in it
umask 077

prefix=${APIGW_PREFIX:?}
operator=${APIGW_CONFIG_DIR:-}
nginx=${APIGW_NGINX:-nginx}
case $0 in */*) shipped=$(cd "${0%/*}" && pwd) ;; *) shipped=$(pwd) ;; esac
next=$prefix/next
temp=$prefix/temp

# nginx names the copy; the operator knows the file by its own name
own_names() {
  awk -v next_dir="$next/" -v operator="$operator/nginx/" -v shipped="$shipped/" '
    {
      rest = $0
      line = ""
      while ((start = index(rest, next_dir)) > 0) {
        line = line substr(rest, 1, start - 1)
        rest = substr(rest, start + length(next_dir))
        match(rest, /^[A-Za-z0-9._\/-]*/)
        file = substr(rest, 1, RLENGTH)
        rest = substr(rest, RLENGTH + 1)
        if (file == "runtime/application.conf") line = line "APIGW_APP_UPSTREAM"
        else if (operator != "/nginx/" && exists(operator file)) line = line operator file
        else line = line (file ~ /^runtime\// ? next_dir : shipped) file
      }
      print line rest
    }
    function exists(path,    unused, is_there) {
      is_there = (getline unused <path) >= 0
      close(path)
      return is_there
    }'
}

# Without a terminal nginx cannot wait for the password of a key: it has to be in ssl_password_file.
dump() {
  timeout 20 setsid -w "$nginx" -p "$prefix" -e stderr -c next/nginx.conf -q -T </dev/null
}

refuse() {
  own_names >&2
  exit 1
}

if ! dump >"$temp/configuration" 2>"$temp/messages"; then
  [ -s "$temp/messages" ] || echo "$nginx does not come to an end when it tests the configuration" >"$temp/messages"
  refuse <"$temp/messages"
fi
# in bytes: some awks are slow with characters
LC_ALL=C awk -f "$shipped/conf-guard.awk" <"$temp/configuration" >"$temp/mistakes"
if [ -s "$temp/messages" ] || [ -s "$temp/mistakes" ]; then
  # where it stands, not in what an operator has written
  if grep -Ev '^[^:]*:[0-9]+: WARNING: ' "$temp/mistakes" >"$temp/refused"; then refuse <"$temp/refused"; fi
  cat "$temp/messages" "$temp/mistakes" | own_names
fi

rm -rf "$prefix/before"
if [ -e "$prefix/current" ]; then mv "$prefix/current" "$prefix/before"; fi
mv "$next" "$prefix/current"
