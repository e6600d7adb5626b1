#!/bin/sh
# Fetches an nginx that is newer than the machine's, for tests, and installs nothing: it unpacks the packages of a newer
# Debian suite, with every library they need, and writes a wrapper that runs this nginx with its own dynamic loader. It
# therefore runs on an older glibc. Needs Debian and a reachable mirror; needs root only if apt has no lists yet.
#
#   scripts/fetch-nginx.sh DIRECTORY
#
# Prints the wrapper's absolute path, at once if it is there and runs; everything else goes to standard error.
# Exit status: 0; 2 for wrong usage; 3 when this nginx cannot be had, with one sentence that says why.
#
#   SUITES   Debian suites to try, in this order   (forky)
set -eu
umask 022
export LC_ALL=C

suites=${SUITES:-forky}
# nginx and all that it links with
packages='nginx libc6 libcrypt1 libpcre2-8-0 libssl3t64 libzstd1 zlib1g'
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf 'fetch-nginx: %s\n' "$*" >&2; }
give_up() {
  say "$*"
  exit 3
}

# is_usable WRAPPER
is_usable() {
  [ -x "$1" ] && "$1" -v >/dev/null 2>&1
}

check_machine() {
  for program in apt-get dpkg dpkg-deb; do
    command -v "$program" >/dev/null || give_up "there is no $program, so no newer nginx can be fetched."
  done
  [ -r "$keyring" ] || give_up "$keyring is missing: apt-get install debian-archive-keyring."
}

index_targets() {
  # shellcheck disable=SC2016 # apt's variables
  apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(LABEL)' 'Created-By: Packages' 2>/dev/null || true
}

# The mirror is the one that the machine already uses.
find_mirror() {
  targets=$(index_targets)
  if [ -z "$targets" ]; then
    [ "$(id -u)" = 0 ] || give_up "apt has no lists to read the mirror from: run apt-get update as root."
    apt-get update -qq </dev/null >/dev/null 2>&1 || true
    targets=$(index_targets)
  fi
  # "Debian" and nothing after it: security and backports have labels of their own
  mirror=$(printf '%s\n' "$targets" | awk 'NF == 3 && $2 == "main" && $3 == "Debian" { print $1; exit }')
  [ -n "$mirror" ] || give_up "apt has no Debian mirror configured, so no newer nginx can be fetched."
}

# configure_apt SUITE: own lists, cache, sources and dpkg status; proxies and credentials stay the machine's
configure_apt() {
  rm -rf "$work/apt"
  mkdir -p "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial" "$work/apt/packages"
  : >"$work/apt/status"
  options="arch=$(dpkg --print-architecture 2>/dev/null) target=Packages signed-by=$keyring"
  echo "deb [$options] $mirror $1 main" >"$work/apt/sources.list"
  # read after the machine's configuration; the hooks cleared here would act on the whole machine
  cat >"$work/apt/apt.conf" <<END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Default-Release "";
APT::Sandbox::User "root";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::State "$work/apt/state";
Dir::State::lists "lists/";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Dir::Cache::archives "archives/";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
END
}

# Runs where downloads are to go.
private_apt() {
  (cd "$work/apt/packages" && apt-get -qq -c "$work/apt/apt.conf" "$@" </dev/null >"$work/apt/log" 2>&1) && return 0
  reason=$(sed -n '/^E: /{s///p;q;}' "$work/apt/log")
  reason=${reason:-apt-get $1 failed}
  return 1
}

# fetch SUITE: the packages' files below $work/new
fetch() {
  configure_apt "$1"
  private_apt update || return 1
  # shellcheck disable=SC2086 # a list
  private_apt download $packages || return 1
  rm -rf "$work/new"
  mkdir "$work/new"
  for package in "$work"/apt/packages/*.deb; do
    dpkg-deb -x "$package" "$work/new" 2>"$work/apt/log" && continue
    reason="$(basename "$package") cannot be unpacked: $(tail -n 1 "$work/apt/log")"
    return 1
  done
}

# Finds its own place at every start, since the tree is moved once it is complete. nginx's process is this one: exec.
# The machine's OpenSSL configuration and modules are for the machine's OpenSSL.
write_wrapper() {
  loader=$(cd "$work/new" && find . -type f -name 'ld-linux*.so.*' | sed -n '1s|^\./||p')
  if [ -z "$loader" ]; then
    reason='libc6 has no dynamic loader'
    return 1
  fi
  libraries=$(dirname "$loader")
  cat >"$work/new/nginx" <<END
#!/bin/sh
# Runs the nginx in this folder with its own dynamic loader and libraries. Made by fetch-nginx.sh.
here=\$(dirname "\$(readlink -f "\$0")")
export OPENSSL_CONF=/dev/null OPENSSL_MODULES="\$here/$libraries/ossl-modules"
exec "\$here/$loader" --inhibit-cache --library-path "\$here/$libraries" "\$here/usr/sbin/nginx" "\$@"
END
  chmod 755 "$work/new/nginx"
}

# Every library has to come from the tree: one of the machine's may be too old, or of another version next time.
check_tree() {
  new=$work/new
  strangers=$("$new/$loader" --inhibit-cache --library-path "$new/$libraries" --list "$new/usr/sbin/nginx" 2>&1 |
    grep -v 'linux-vdso' | grep -vF " $new/$libraries/" | grep -vF "$new/$loader" | head -n 1)
  if [ -n "$strangers" ]; then
    reason="not among the packages: $(echo "$strangers" | tr -s '[:space:]' ' ')"
    return 1
  fi
  if ! is_usable "$new/nginx"; then
    reason='the unpacked nginx does not run here'
    return 1
  fi
}

# Moves the complete tree into place in one step. Another run may have been faster: its tree is as good.
put_in_place() {
  is_usable "$wrapper" && return 0
  if [ -e "$directory/unpacked" ]; then mv -T "$directory/unpacked" "$work/old"; fi
  mv -T "$work/new" "$directory/unpacked" 2>/dev/null || is_usable "$wrapper"
}

if [ $# -ne 1 ] || [ -z "$1" ]; then
  say "usage: scripts/fetch-nginx.sh DIRECTORY"
  exit 2
fi
case $1 in
  /*) directory=${1%/} ;;
  *) directory=$PWD/${1%/} ;;
esac
wrapper=$directory/unpacked/nginx

if ! is_usable "$wrapper"; then
  check_machine
  find_mirror
  mkdir -p "$directory" 2>/dev/null || give_up "$directory cannot be made."
  # left by runs that were killed outright
  find "$directory" -maxdepth 1 -name '.work.*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
  work=$(mktemp -d "$directory/.work.XXXXXX" 2>/dev/null) || give_up "$directory cannot be written to."
  trap 'rm -rf "$work"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM

  found=
  reasons=
  for suite in $suites; do
    if fetch "$suite" && write_wrapper && check_tree; then
      found=$suite
      break
    fi
    reasons="$reasons${reasons:+; }$suite: $reason"
  done
  [ -n "$found" ] || give_up "no newer nginx can be fetched from the Debian mirror ($reasons)."
  put_in_place || give_up "the fetched nginx cannot be moved to $directory/unpacked."
  say "$("$wrapper" -v 2>&1), from Debian $found"
fi
printf '%s\n' "$wrapper"
