#!/bin/sh
# Lays out the directory that nginx runs in: the shipped files, the operator's in place of those that are present, and
# runtime/*.conf with addresses, ports and what depends on nginx's version. Run at every start, with or without Docker;
# it prints one line for each thing that an operator may want to know, and for an error one line that names it.
#
#   APIGW_PREFIX        directory to lay out; nginx -p                                          (required)
#   APIGW_CONFIG_DIR    the operator's directory, with nginx/conf.d, nginx/ssl; may be absent   (none)
#   APIGW_TLS_DIR       where a self-signed certificate is kept                                 ($APIGW_PREFIX/tls)
#   APIGW_SOCKET_DIR    where the gateway's sockets are                                         (/run/apigw)
#   APIGW_LOG_DIR       where nginx writes its logs                                             ($APIGW_PREFIX/logs)
#   APIGW_APP_UPSTREAM  the application: host:port or unix:/path                                (app:8000)
#   APIGW_HTTP_PORT, APIGW_HTTPS_PORT                                                           (80, 443)
#   APIGW_NGINX         the nginx program                                                       (nginx)
set -eu
umask 022

shipped=$(cd "$(dirname "$0")" && pwd)
prefix=${APIGW_PREFIX:?}
operator=${APIGW_CONFIG_DIR:-}
tls=${APIGW_TLS_DIR:-$prefix/tls}
sockets=${APIGW_SOCKET_DIR:-/run/apigw}
logs=${APIGW_LOG_DIR:-$prefix/logs}
upstream=${APIGW_APP_UPSTREAM:-app:8000}
http_port=${APIGW_HTTP_PORT:-80}
https_port=${APIGW_HTTPS_PORT:-443}
nginx=${APIGW_NGINX:-nginx}

say() { printf 'proxy: %s\n' "$*"; }
die() {
  printf 'proxy: %s\n' "$*" >&2
  exit 1
}

# What is written into the configuration is checked first, so that a value cannot bring directives along.
check_values() {
  check_port APIGW_HTTP_PORT "$http_port"
  check_port APIGW_HTTPS_PORT "$https_port"
  printf '%s' "$upstream" | grep -Eqx '[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|unix:/[A-Za-z0-9._/-]+' ||
    die "APIGW_APP_UPSTREAM is \"$upstream\"; allowed: host:port, [address]:port or unix:/path"
  case $upstream in unix:*) ;; *) check_port "the port of APIGW_APP_UPSTREAM" "${upstream##*:}" ;; esac
}

# check_port NAME VALUE
check_port() {
  case $2 in
    0* | *[!0-9]* | '' | ??????*) ;;
    *) [ "$2" -gt 65535 ] || return 0 ;;
  esac
  die "$1 is \"$2\"; allowed: a number from 1 to 65535"
}

# link_files FROM TO PATTERN: the files themselves stay where they are, so that a reload sees an edit
link_files() {
  for file in "$1"/$3; do
    [ -e "$file" ] || [ -h "$file" ] || continue
    [ -f "$file" ] || die "$file is not a file, or a link that leads nowhere"
    [ -r "$file" ] || die "$file cannot be read by $(id -un)"
    ln -sfn "$file" "$2/$(basename "$file")"
  done
}

lay_out() {
  mkdir -p "$prefix/conf.d" "$prefix/ssl" "$prefix/runtime" "$prefix/temp" "$logs"
  [ "$logs" = "$prefix/logs" ] || ln -sfn "$logs" "$prefix/logs"
  rm -f "$prefix"/conf.d/* "$prefix"/ssl/*
  ln -sfn "$shipped/nginx.conf" "$prefix/nginx.conf"
  ln -sfn "$shipped/snippets" "$prefix/snippets"
  link_files "$shipped/conf.d" "$prefix/conf.d" '*.conf'
  link_files "$shipped/ssl" "$prefix/ssl" '*.conf'
  [ -z "$operator" ] || lay_out_operator
}

# What the operator has must count, or be named: a shipped file in its place would be another policy.
lay_out_operator() {
  for directory in "$operator" "$operator/nginx" "$operator/nginx/conf.d" "$operator/nginx/ssl"; do
    [ -e "$directory" ] || [ -h "$directory" ] || continue
    [ -d "$directory" ] || die "$directory is not a directory, or a link that leads nowhere"
    { [ -r "$directory" ] && [ -x "$directory" ]; } || die "$directory cannot be read by $(id -un)"
  done
  link_files "$operator/nginx/conf.d" "$prefix/conf.d" '*.conf'
  link_files "$operator/nginx/ssl" "$prefix/ssl" '*'
  used=
  for link in "$prefix"/conf.d/* "$prefix"/ssl/*; do
    case $(readlink "$link") in "$operator"/*) used="$used ${link#"$prefix/"}" ;; esac
  done
  if [ -n "$used" ]; then
    say "from $operator/nginx:$used"
  else
    say "there is nothing in $operator/nginx/conf.d and $operator/nginx/ssl, so the shipped files are used"
  fi
}

# The operator's certificate, or one that is made once for this machine and kept.
provide_certificate() {
  if [ -e "$prefix/ssl/nginx.crt" ] || [ -e "$prefix/ssl/nginx.key" ]; then
    [ -e "$prefix/ssl/nginx.crt" ] || die "$operator/nginx/ssl has nginx.key but no nginx.crt; both are needed"
    [ -e "$prefix/ssl/nginx.key" ] || die "$operator/nginx/ssl has nginx.crt but no nginx.key; both are needed"
    return 0
  fi
  if ! [ -s "$tls/nginx.crt" ] || ! [ -s "$tls/nginx.key" ]; then
    make_certificate
    say "made a self-signed certificate, $tls/nginx.crt, $(openssl x509 -in "$tls/nginx.crt" -noout -fingerprint -sha256 -enddate | tr '\n' ' ')"
  fi
  link_files "$tls" "$prefix/ssl" 'nginx.*'
}

make_certificate() {
  command -v openssl >/dev/null || die "openssl is needed to make a certificate: apt-get install openssl"
  mkdir -p "$tls"
  host=$(hostname | tr -cd 'A-Za-z0-9.-')
  (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 825 \
      -subj "/CN=${host:-localhost}" -addext "subjectAltName=DNS:${host:-localhost},DNS:localhost,IP:127.0.0.1,IP:::1" \
      -addext extendedKeyUsage=serverAuth -keyout "$tls/nginx.key.new" -out "$tls/nginx.crt.new" 2>"$tls/openssl.log"
  ) || die "openssl made no certificate: $(tail -n 1 "$tls/openssl.log")"
  rm -f "$tls/openssl.log"
  # the key first: a start that is killed between the two makes both anew
  mv "$tls/nginx.key.new" "$tls/nginx.key"
  mv "$tls/nginx.crt.new" "$tls/nginx.crt"
}

nginx_version() {
  "$nginx" -v 2>&1 | sed -n 's|^nginx version: [^/]*/\([0-9.]*\).*|\1|p'
}

# is_at_least VERSION MINIMUM
is_at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

check_nginx() {
  version=$(nginx_version)
  [ -n "$version" ] || die "$nginx does not run: install nginx, or name the program in APIGW_NGINX"
  is_at_least "$version" 1.22 || die "nginx $version is too old; 1.22 or later is needed"
}

write_runtime() {
  # ipv6=1 on a machine that speaks it
  if [ -e /proc/net/if_inet6 ]; then ipv6=1; else ipv6=; fi

  {
    echo 'pid nginx.pid;'
    if [ "$(id -u)" = 0 ]; then echo "user $(worker_user);"; fi
  } >"$prefix/runtime/main.conf"

  {
    # shellcheck disable=SC2016 # nginx's variable
    printf 'map "" $https_port {\n  default "%s";\n}\n' "$([ "$https_port" = 443 ] || echo ":$https_port")"
    for name in gateway management; do
      socket=decision
      [ "$name" = gateway ] || socket=management
      # more idle connections than one worker has requests in flight; nginx's default time out is 60 s
      printf 'upstream %s {\n  server unix:%s/%s.sock;\n  keepalive 64;\n}\n' "$name" "$sockets" "$socket"
    done
  } >"$prefix/runtime/http.conf"

  {
    echo "listen $http_port;"
    [ -z "$ipv6" ] || echo "listen [::]:$http_port;"
  } >"$prefix/runtime/listen-http.conf"

  # the directive exists since 1.25.1, which warns of the parameter
  if is_at_least "$version" 1.25.1; then parameter=; else parameter=' http2'; fi
  {
    echo "listen $https_port ssl$parameter;"
    [ -z "$ipv6" ] || echo "listen [::]:$https_port ssl$parameter;"
    [ -n "$parameter" ] || echo 'http2 on;'
  } >"$prefix/runtime/listen-https.conf"

  echo "server $upstream;" >"$prefix/runtime/application.conf"
}

worker_user() {
  for user in nginx www-data nobody; do
    if id "$user" >/dev/null 2>&1; then
      echo "$user $(id -gn "$user")"
      return
    fi
  done
}

check_values
check_nginx
lay_out
provide_certificate
write_runtime
