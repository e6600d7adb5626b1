#!/bin/sh
# Lays out what nginx is to run with, as $APIGW_PREFIX/next: copies of the shipped files, of the operator's in place of
# those that are present, and runtime/*.conf with addresses, ports and what depends on nginx's version. check.sh puts it
# into $APIGW_PREFIX/current, and only that is ever run, so that a file that is being edited or was refused takes effect at
# no restart. Prints one line for each thing that an operator may want to know, and for an error one line that names it.
#
#   APIGW_PREFIX        nginx -p                                                                (required)
#   APIGW_CONFIG_DIR    the operator's directory, with nginx/conf.d, nginx/ssl; may be absent   (none)
#   APIGW_TLS_DIR       where a self-signed certificate is kept                                 ($APIGW_PREFIX/tls)
#   APIGW_SOCKET_DIR    where the gateway's sockets are; of several gateways, each one's directory, separated by spaces
#                                                                                               (/run/apigw)
#   APIGW_DECISION_UPSTREAM, APIGW_MANAGEMENT_UPSTREAM  in place of sockets: host:port of the listeners of gateways on
#                                                       other machines; a name is looked up once           (none)
#   APIGW_LOG_DIR       where nginx writes its logs                                             ($APIGW_PREFIX/logs)
#   APIGW_CACHE_DIR     a directory in memory (tmpfs) for nginx's decision cache alone, emptied at every start
#                                          ($APIGW_PREFIX/decisions if that is in memory, else one in /dev/shm)
#   APIGW_APP_UPSTREAM  the application: host:port or unix:/path                                (app:8000)
#   APIGW_HTTP_PORT, APIGW_HTTPS_PORT                                                           (80, 443)
#   APIGW_PUBLIC_HTTPS_PORT  the port that clients see, for the redirect                        ($APIGW_HTTPS_PORT)
#   APIGW_HOSTNAME      for the self-signed certificate                                         (hostname)
#   APIGW_WORKER_USER   nginx's workers, when root starts it                    (the first of nginx, www-data, nobody)
#   APIGW_RESOLVER      a DNS server, asked for the application's name again and again          (none: once at start)
#   APIGW_NGINX         the nginx program                                                       (nginx)
#   APIGW_STRICT        true: check.sh refuses what it warns of; or false                       (false)
set -eu
umask 022

# reload.sh says so: what nginx has in use stays
is_running=
[ "${1:-}" != running ] || is_running=1

case $0 in */*) shipped=$(cd "${0%/*}" && pwd) ;; *) shipped=$(pwd) ;; esac
prefix=${APIGW_PREFIX:?}
next=$prefix/next
operator=${APIGW_CONFIG_DIR:-}
tls=${APIGW_TLS_DIR:-$prefix/tls}
sockets=${APIGW_SOCKET_DIR:-/run/apigw}
decision=${APIGW_DECISION_UPSTREAM:-}
management=${APIGW_MANAGEMENT_UPSTREAM:-}
logs=${APIGW_LOG_DIR:-$prefix/logs}
cache=${APIGW_CACHE_DIR:-}
upstream=${APIGW_APP_UPSTREAM:-app:8000}
http_port=${APIGW_HTTP_PORT:-80}
https_port=${APIGW_HTTPS_PORT:-443}
public_https_port=${APIGW_PUBLIC_HTTPS_PORT:-$https_port}
host=${APIGW_HOSTNAME:-$(hostname)}
resolver=${APIGW_RESOLVER:-}
nginx=${APIGW_NGINX:-nginx}
uid=$(id -u)

say() { printf 'proxy: %s\n' "$*"; }
die() {
  printf 'proxy: %s\n' "$*" >&2
  exit 1
}

# What is written into the configuration is checked first, so that a value cannot bring directives along.
check_values() {
  check_names
  check_port APIGW_HTTP_PORT "$http_port"
  check_port APIGW_HTTPS_PORT "$https_port"
  check_port APIGW_PUBLIC_HTTPS_PORT "$public_https_port"
  check_characters APIGW_HOSTNAME "$host"
  check_characters APIGW_RESOLVER "$resolver"
  check_characters APIGW_WORKER_USER "${APIGW_WORKER_USER:-}"
  check_characters APIGW_CACHE_DIR "$cache"
  set -f
  # shellcheck disable=SC2086 # a list
  check_sockets $sockets
  set +f
  [ -z "$decision$management" ] || check_gateways
  case $cache in '' | /*) ;; *) die "APIGW_CACHE_DIR is \"$cache\"; allowed: an absolute path" ;; esac
  { is_plain "$upstream" && printf '%s' "$upstream" |
    grep -Eqx '[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|unix:/[A-Za-z0-9._/-]+'; } ||
    die "APIGW_APP_UPSTREAM is \"$upstream\"; allowed: host:port, [address]:port or unix:/path"
  case $upstream in unix:*) ;; *) check_port "the port of APIGW_APP_UPSTREAM" "${upstream##*:}" ;; esac
}

# A variable that is misspelt is no variable of ours, and would have no effect.
check_names() {
  # shellcheck disable=SC2046 # words
  set -- $(sed -n '/^set -eu/q; /^#   APIGW/s/[^A-Z_]\{1,\}/ /gp' "$0")
  known=$*
  for name in $(env | sed -n 's/^\(APIGW_[A-Za-z0-9_]*\)=.*/\1/p'); do
    case " $known " in *" $name "*) ;; *) die "$name is not a setting of the proxy; they are: $known" ;; esac
  done
}

# check_sockets DIRECTORY...
check_sockets() {
  gateways=$#
  [ "$gateways" -gt 0 ] || die "APIGW_SOCKET_DIR is \"$sockets\"; allowed: absolute paths, separated by spaces"
  for directory; do
    case $directory in
      *[\;{}\"\'\$\\#*?]* | [!/]*) die "APIGW_SOCKET_DIR: \"$directory\"; allowed: absolute paths, separated by spaces, without ; { } \" ' \$ \\ # * ?" ;;
    esac
  done
}

check_gateways() {
  { [ -n "$decision" ] && [ -n "$management" ]; } ||
    die "APIGW_DECISION_UPSTREAM and APIGW_MANAGEMENT_UPSTREAM go together; one is empty"
  check_address APIGW_DECISION_UPSTREAM "$decision"
  check_address APIGW_MANAGEMENT_UPSTREAM "$management"
  # how many there are behind a name nginx does not know
  gateways=2
}

# check_address NAME VALUE
check_address() {
  { is_plain "$2" && printf '%s' "$2" | grep -Eqx '[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}'; } ||
    die "$1 is \"$2\"; allowed: host:port or [address]:port"
  check_port "the port of $1" "${2##*:}"
}

# A line end is not plain either; grep would look at each line by itself.
is_plain() {
  case $1 in *[!A-Za-z0-9._:/[\]-]*) return 1 ;; esac
}

# check_characters NAME VALUE
check_characters() {
  is_plain "$2" || die "$1 is \"$2\"; allowed are letters, digits and . _ - : / [ ]"
}

# check_port NAME VALUE
check_port() {
  case $2 in
    0* | *[!0-9]* | '' | ??????*) ;;
    *) [ "$2" -gt 65535 ] || return 0 ;;
  esac
  die "$1 is \"$2\"; allowed: a number from 1 to 65535"
}

# copy_files FROM TO PATTERN
copy_files() {
  from=$1
  to=$2
  pattern=$3
  set --
  for file in "$from"/$pattern; do
    [ -e "$file" ] || [ -h "$file" ] || continue
    [ -f "$file" ] || die "$file is not a file, or a link that leads nowhere"
    [ -r "$file" ] || die "$file cannot be read by $(id -un)"
    set -- "$@" "$file"
  done
  [ $# = 0 ] || cp "$@" "$to"
}

lay_out() {
  rm -rf "$next"
  mkdir -p "$next/conf.d" "$next/runtime" "$prefix/temp" "$logs"
  (umask 077 && mkdir "$next/ssl")
  [ "$logs" = "$prefix/logs" ] || ln -sfn "$logs" "$prefix/logs"
  cp -R "$shipped/nginx.conf" "$shipped/snippets" "$next"
  copy_files "$shipped/conf.d" "$next/conf.d" '*.conf'
  copy_files "$shipped/ssl" "$next/ssl" '*.conf'
  [ -z "$operator" ] || lay_out_operator
}

# What the operator has must count, or be named: a shipped file in its place would be another policy.
lay_out_operator() {
  for directory in "$operator" "$operator/nginx" "$operator/nginx/conf.d" "$operator/nginx/ssl"; do
    [ -e "$directory" ] || [ -h "$directory" ] || continue
    [ -d "$directory" ] || die "$directory is not a directory, or a link that leads nowhere"
    { [ -r "$directory" ] && [ -x "$directory" ]; } || die "$directory cannot be read by $(id -un)"
  done
  for entry in "$operator"/*; do
    case ${entry##*/} in
      conf.d | ssl | *.conf | *.crt | *.key) die "$entry is not used; it belongs into $operator/nginx" ;;
    esac
  done
  for entry in "$operator"/nginx/*; do
    case ${entry##*/} in
      conf.d | ssl | '*') ;;
      *) die "$entry is not used; yours can be nginx/conf.d/*.conf and nginx/ssl/*" ;;
    esac
  done
  for entry in "$operator"/nginx/conf.d/*; do
    case ${entry##*/} in
      *.conf | '*') ;;
      *) say "$entry is not used; nginx reads *.conf there" ;;
    esac
  done
  used=
  for folder in conf.d ssl; do
    names='*.conf'
    [ "$folder" = conf.d ] || names='*'
    copy_files "$operator/nginx/$folder" "$next/$folder" "$names"
    for file in "$operator/nginx/$folder"/$names; do
      [ -e "$file" ] || continue
      cmp -s "$file" "$shipped/$folder/${file##*/}" || used="$used $folder/${file##*/}"
    done
  done
  if [ -n "$used" ]; then
    say "from $operator/nginx:$used"
  else
    say "there is nothing of your own in $operator/nginx/conf.d and $operator/nginx/ssl, so the shipped files are used"
  fi
}

# The operator's certificate, or one that is made once for this machine and kept.
provide_certificate() {
  crt=$next/ssl/nginx.crt
  key=$next/ssl/nginx.key
  source=$operator/nginx/ssl
  is_made=
  if [ -e "$crt" ] || [ -e "$key" ]; then
    [ -e "$crt" ] || die "$operator/nginx/ssl has nginx.key but no nginx.crt; both are needed"
    [ -e "$key" ] || die "$operator/nginx/ssl has nginx.crt but no nginx.key; both are needed"
  else
    if ! [ -s "$tls/nginx.crt" ] || ! [ -s "$tls/nginx.key" ]; then
      make_certificate
      is_made=1
    fi
    copy_files "$tls" "$next/ssl" 'nginx.*'
    source=$tls
  fi
  check_certificate
}

# nginx names none of these mistakes in words, and takes a certificate that has expired. openssl is slow to start: one run
# for all that it says of the certificate.
check_certificate() {
  command -v openssl >/dev/null || return 0
  crt_file=$source/nginx.crt
  key_file=$source/nginx.key
  # exit status 1 for one that expires soon, too
  of_crt=$(openssl x509 -in "$crt" -noout -pubkey -startdate -enddate -fingerprint -sha256 -checkend $((30 * 86400)) 2>/dev/null) && is_soon= || is_soon=1
  case $of_crt in *notAfter=*) ;; *) die "$crt_file is not a certificate in PEM form" ;; esac
  validity="good until $(line_after notAfter= "$of_crt")"
  if [ "$is_made" ]; then
    say "made a self-signed certificate, $crt_file, SHA-256 fingerprint $(line_after ingerprint= "$of_crt"), $validity"
    return
  fi
  if of_key=$(openssl pkey -in "$key" -passin pass: -pubout 2>/dev/null); then
    case $of_crt in *"$of_key"*) ;; *) die "$key_file is not the key of $crt_file (key values mismatch)" ;; esac
  elif ! grep -q ENCRYPTED "$key"; then
    die "$key_file is not a private key in PEM form"
  elif ! grep -Eq '^[^#]*ssl_password_file' "$next/ssl/ssl.conf"; then
    die "$key_file has a password; name the file with the password by ssl_password_file in ssl.conf, or remove it"
  fi
  if [ "$is_soon" ] && ! openssl x509 -in "$crt" -noout -checkend 0 >/dev/null; then
    say "WARNING: $crt_file has expired (it was $validity); clients will refuse it. Replace it and its key"
  elif [ "$(date -d "$(line_after notBefore= "$of_crt")" +%s)" -gt "$(date +%s)" ]; then
    say "WARNING: $crt_file is not valid yet; clients will refuse it"
  elif [ "$is_soon" ]; then
    say "WARNING: $crt_file expires soon ($validity). Replace it and its key"
  fi
}

# line_after WORD TEXT
line_after() {
  line=${2#*"$1"}
  echo "${line%%"$line_end"*}"
}
line_end='
'

make_certificate() {
  command -v openssl >/dev/null || die "openssl is needed to make a certificate: apt-get install openssl"
  mkdir -p "$tls"
  case $host in
    *:*) name=IP:$host ;;
    *[!0-9.]*) name=DNS:$host ;;
    '') name=DNS:localhost ;;
    *) name=IP:$host ;;
  esac
  (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 825 \
      -subj "/CN=$(printf '%.64s' "${host:-localhost}")" -addext "subjectAltName=$name,DNS:localhost,IP:127.0.0.1,IP:::1" \
      -addext extendedKeyUsage=serverAuth -keyout "$tls/nginx.key.new" -out "$tls/nginx.crt.new" 2>"$tls/openssl.log"
  ) || die "openssl made no certificate: $(tail -n 1 "$tls/openssl.log")"
  rm -f "$tls/openssl.log"
  # the key first: a start that is killed between the two makes both anew
  mv "$tls/nginx.key.new" "$tls/nginx.key"
  mv "$tls/nginx.crt.new" "$tls/nginx.crt"
}

# What nginx keeps has credentials in it: in memory, for nginx alone, and gone at every start. A reload keeps it.
prepare_cache() {
  is_cached=
  if grep -Eqs '^([^#]*[;{[:space:]])?include[[:space:]]+["'\'']?snippets/decision-cache\.conf' "$next"/conf.d/*.conf; then is_cached=1; fi
  if [ -z "$cache" ]; then
    cache=$prefix/decisions
    sum=$(printf '%s' "$prefix" | cksum)
    is_in_memory "$cache" || cache=/dev/shm/apigw-decisions-$uid-${sum%% *}
  fi
  if [ "$is_running" ] && grep -qs '^proxy_cache_path' "$prefix/current/runtime/http.conf"; then return; fi
  empty_cache
  [ -n "$is_cached" ] || return 0
  is_in_memory "$cache" || die "nginx's decision cache has credentials in it and must be in memory, but $cache is not on a tmpfs; name a directory in APIGW_CACHE_DIR that is"
  mkdir -p "$(dirname "$cache")"
  # not -p: whoever was there first could read it
  [ -d "$cache" ] || mkdir -m 0700 "$cache" || die "$cache cannot be made"
  [ "$(stat -c %u "$cache")" = "$uid" ] || [ "$(stat -c %U "$cache")" = "$(worker_user | cut -d ' ' -f 1)" ] ||
    die "APIGW_CACHE_DIR: $cache belongs to somebody else"
  chmod 0700 "$cache"
  [ "$gateways" -gt 1 ] || say "nginx keeps decisions in $cache"
}

is_in_memory() {
  there=$1
  while [ ! -e "$there" ]; do
    there=${there%/*}
    there=${there:-/}
  done
  case $(stat -f -c %T "$there") in tmpfs | ramfs) ;; *) return 1 ;; esac
}

# Takes away what nginx has made there and nothing else: the setting may name another directory by mistake.
empty_cache() {
  [ -e "$cache" ] || [ -h "$cache" ] || return 0
  { [ -d "$cache" ] && [ ! -h "$cache" ]; } || die "APIGW_CACHE_DIR: $cache is no directory"
  rm -rf "$cache"/[0-9a-f] || die "APIGW_CACHE_DIR: $cache cannot be emptied by $(id -un)"
  # one that something is mounted on stays
  rmdir "$cache" 2>/dev/null || [ -z "$(ls -A "$cache")" ] ||
    die "APIGW_CACHE_DIR: $cache has files of something else in it; name a directory for the cache alone"
}

nginx_version() {
  "$nginx" -v 2>&1 | sed -n 's|^nginx version: [^/]*/\([0-9.]*\).*|\1|p'
}

# is_at_least VERSION MINIMUM
is_at_least() {
  [ "$(number_of "$1")" -ge "$(number_of "$2")" ]
}

# number_of 1.27.3 is 1027003
number_of() (
  IFS=.
  # shellcheck disable=SC2086 # its parts
  set -- $1
  echo $(($1 * 1000000 + ${2:-0} * 1000 + ${3:-0}))
)

check_nginx() {
  version=$(nginx_version)
  [ -n "$version" ] || die "$nginx does not run: install nginx, or name the program in APIGW_NGINX"
  is_at_least "$version" 1.22 || die "nginx $version is too old; 1.22 or later is needed"
}

write_runtime() {
  if [ -n "$is_cached" ] && [ "$gateways" -gt 1 ]; then say "nginx keeps no decisions: with several gateways the decision cache is off"; fi
  # ipv6=1 on a machine that speaks it
  if [ -e /proc/net/if_inet6 ]; then ipv6=1; else ipv6=; fi

  {
    echo 'pid nginx.pid;'
    # each takes some 8 MB, twice while a reload goes on; more than eight are of no use to a gate
    workers=$(nproc)
    echo "worker_processes $([ "$workers" -lt 8 ] && echo "$workers" || echo 8);"
    if [ "$uid" = 0 ]; then echo "user $(worker_user);"; fi
    # two for each connection: a file may be open for it. Nobody but root may have more than the hard limit
    # shellcheck disable=SC3045 # dash, ash and bash have it
    files=$(ulimit -H -n)
    case $files in *[!0-9]* | ?????*) [ "$files" != unlimited ] && [ "$files" -lt 32768 ] || files=32768 ;; esac
    echo "worker_rlimit_nofile $files;"
  } >"$next/runtime/main.conf"

  {
    # shellcheck disable=SC2016 # nginx's variable
    printf 'map "" $https_port {\n  default "%s";\n}\n' "$([ "$public_https_port" = 443 ] || echo ":$public_https_port")"
    # which of several gateways has granted, and so could take it back, nginx does not know
    vouchers=$sockets/decision-cache
    [ "$gateways" = 1 ] || vouchers=/nonexistent
    # shellcheck disable=SC2016 # nginx's variable
    printf 'map "" $decision_vouchers {\n  default "%s";\n}\n' "$vouchers"
    # some 8,000 entries, each of a page of memory or two
    [ -z "$is_cached" ] || echo "proxy_cache_path $cache levels=1:2 use_temp_path=off keys_zone=apigw_decisions:1m max_size=64m inactive=10s;"
    write_upstream gateway decision "$decision"
    write_upstream management management "$management"
  } >"$next/runtime/http.conf"

  {
    echo "listen $http_port;"
    [ -z "$ipv6" ] || echo "listen [::]:$http_port;"
  } >"$next/runtime/listen-http.conf"

  # the directive exists since 1.25.1, which warns of the parameter
  if is_at_least "$version" 1.25.1; then parameter=; else parameter=' http2'; fi
  {
    echo "listen $https_port ssl$parameter;"
    [ -z "$ipv6" ] || echo "listen [::]:$https_port ssl$parameter;"
    [ -n "$parameter" ] || echo 'http2 on;'
  } >"$next/runtime/listen-https.conf"

  write_application >"$next/runtime/application.conf"
}

# write_upstream NAME SOCKET ADDRESS
# Of several gateways each takes its share. One that fails gets nothing for 10 s, so that one that hangs costs a request
# every 10 s, not its share. When all have failed they are tried nevertheless, as their own backups: one that was restarted
# a moment ago may be back, and its clock may have been put back (nginx counts the 10 s on the one that people set).
# An address in place of sockets may be that of a Service: what fails there is tried once more, and may meet another gateway.
write_upstream() {
  echo "upstream $1 {"
  if [ -n "$3" ]; then
    printf '  server %s max_fails=0;\n  server %s backup max_fails=0;\n  keepalive 64;\n}\n' "$3" "$3"
    return
  fi
  for directory in $sockets; do
    echo "  server unix:$directory/$2.sock$([ "$gateways" = 1 ] || echo ' max_fails=1 fail_timeout=10s');"
  done
  if [ "$gateways" -gt 1 ]; then
    for directory in $sockets; do echo "  server unix:$directory/$2.sock backup max_fails=0;"; done
  fi
  # more idle connections than one worker has requests in flight; nginx's default time out is 60 s
  printf '  keepalive 64;\n}\n'
}

# A name that only DNS knows is looked up again while nginx runs, where this version can: a container that is made anew
# has another address. A name of /etc/hosts is not known to DNS.
write_application() {
  name=${upstream%:*}
  case $name in
    unix | *[!A-Za-z0-9._-]*) name= ;;
    *[!0-9.]*) ;;
    *) name= ;;
  esac
  if [ -z "$name" ] || [ -z "$resolver" ] || ! is_at_least "$version" 1.27.3 || is_in_hosts "$name"; then
    echo "server $upstream;"
    return
  fi
  printf 'zone application 64k;\nresolver %s valid=5s;\nserver %s resolve;\n' "$resolver" "$upstream"
}

is_in_hosts() {
  awk -v name="$1" '{ sub(/#.*/, ""); for (i = 2; i <= NF; i++) if ($i == name) found = 1 } END { exit !found }' /etc/hosts
}

worker_user() {
  for user in ${APIGW_WORKER_USER:-nginx www-data nobody}; do
    if group=$(id -gn "$user" 2>/dev/null); then
      echo "$user $group"
      return
    fi
  done
  die "there is no user ${APIGW_WORKER_USER:-nobody} for nginx's workers"
}

check_values
check_nginx
lay_out
provide_certificate
prepare_cache
write_runtime
