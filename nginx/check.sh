#!/bin/sh
# Tests the configuration that stage.sh has laid out: as nginx does (nginx -t), and for what nginx takes and the gateway
# cannot stand behind. Changes nothing. Exit status 1, and one line for each mistake, with the operator's own file and line.
#
#   APIGW_PREFIX        as for stage.sh   (required)
#   APIGW_CONFIG_DIR    as for stage.sh   (none)
#   APIGW_NGINX         as for stage.sh   (nginx)
set -eu

prefix=${APIGW_PREFIX:?}
operator=${APIGW_CONFIG_DIR:-}
nginx=${APIGW_NGINX:-nginx}

# nginx names the staged copy; the operator knows the file by its own name
own_names() {
  if [ -z "$operator" ]; then
    cat
    return
  fi
  for file in conf.d ssl; do
    for link in "$prefix/$file"/*; do
      target=$(readlink "$link") || continue
      case $target in "$operator"/*) printf 's|%s|%s|g\n' "$link" "$target" ;; esac
    done
  done >"$prefix/temp/own-names.sed"
  sed -f "$prefix/temp/own-names.sed"
}

# Without a terminal nginx cannot wait for the password of a key: it has to be in ssl_password_file.
dump() {
  timeout 20 setsid -w "$nginx" -p "$prefix" -e stderr -c nginx.conf -q -T </dev/null
}

policy_settings() {
  sed -n 's/^proxy_set_header .* \$\([a-z_]*\);$/\1/p' "$prefix/snippets/policy.conf" | tr '\n' ' '
}

# Reads what nginx -T prints. Quoted text is reduced to a word before comments, braces and semicolons are looked for.
find_mistakes() {
  awk -v settings="$(policy_settings)" '
    BEGIN {
      count = split(settings, names, " ")
      for (i = 1; i <= count; i++) is_setting["$" names[i]] = 1
    }
    /^# configuration file .*:$/ {
      file = substr($0, 22, length($0) - 22)
      line = 0
      next
    }
    {
      line++
      text = $0
      while (match(text, /"([^"\\]|\\.)*"/)) {
        word = substr(text, RSTART + 1, RLENGTH - 2)
        if (word !~ /^[A-Za-z0-9.*_-]+$/) word = "~"
        text = substr(text, 1, RSTART - 1) word substr(text, RSTART + RLENGTH)
      }
      gsub(/\$\{[a-z_0-9]+\}/, "$_", text)
      sub(/(^|[ \t;{}])#.*/, "", text)
      gsub(/[;{}]/, " & ", text)
      tokens = split(text, token, /[ \t]+/)
      for (i = 1; i <= tokens; i++) if (token[i] != "") take(token[i])
    }
    function take(word) {
      if (word == ";" || word == "{" || word == "}") {
        directive(word)
        length_of = 0
      } else {
        if (length_of == 0) at = file ":" line
        part[++length_of] = word
      }
    }
    function directive(end) {
      if (end == "}") map = ""
      if (length_of == 0) return
      if (part[1] == "map" && end == "{") {
        map = part[2] == "$server_name" && is_setting[part[3]] ? part[3] : ""
      } else if (map != "") {
        if (part[1] !~ /^(default|volatile|hostnames|include|~.*)$/) {
          key_at[++keys] = at
          key[keys] = part[1]
          key_of[keys] = map
        }
      } else if (part[1] == "server_name") {
        is_server[part[2]] = 1
      } else if (part[1] == "set" && is_setting[part[2]]) {
        print at ": \"set " part[2] "\" goes on when nginx redirects a request inside, and so can open other locations." \
          " Change the map at the top of default.conf, or give the location a question of its own; the examples show both."
      }
    }
    END {
      for (i = 1; i <= keys; i++) if (!(key[i] in is_server))
        print key_at[i] ": " key_of[i] " has a line for \"" key[i] "\", which is not the first server_name of any server," \
          " so it never counts."
    }'
}

if ! dump >"$prefix/temp/configuration" 2>"$prefix/temp/messages"; then
  own_names <"$prefix/temp/messages" >&2
  if [ ! -s "$prefix/temp/messages" ]; then echo "$nginx does not come to an end when it tests the configuration" >&2; fi
  exit 1
fi
own_names <"$prefix/temp/messages" >&2
mistakes=$(find_mistakes <"$prefix/temp/configuration" | own_names)
if [ -n "$mistakes" ]; then
  printf '%s\n' "$mistakes" >&2
  exit 1
fi
