#!/bin/sh
# Tests what stage.sh has laid out, as nginx does (nginx -t) and for what nginx takes and the gateway cannot stand behind,
# and makes it the configuration that nginx is run with: $APIGW_PREFIX/current. When it is refused nothing changes; exit
# status 1, and one line for each mistake, with the operator's own file and line.
#
#   APIGW_PREFIX, APIGW_CONFIG_DIR, APIGW_NGINX   as for stage.sh
set -eu
# what nginx -T prints has everything that the operator's files have in it
umask 077

prefix=${APIGW_PREFIX:?}
operator=${APIGW_CONFIG_DIR:-}
nginx=${APIGW_NGINX:-nginx}
shipped=$(cd "$(dirname "$0")" && pwd)
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

# the name of each setting
policy_settings() {
  sed -n 's/^proxy_set_header X-Policy "\(.*\)";$/\1/p' "$next/snippets/policy.conf" | sed 's/=\$[a-z_]*//g; s/\\t/ /g'
}

# Reads what nginx -T prints, word by word as nginx does.
find_mistakes() {
  awk -v settings="$(policy_settings)" '
    BEGIN {
      count = split(settings, names, " ")
      for (i = 1; i <= count; i++) {
        is_setting["$" names[i]] = 1
        header = "x-policy-" names[i]
        gsub("_", "-", header)
        is_header[header] = 1
      }
    }
    /^# configuration file .*:$/ && quote == "" {
      file = substr($0, 22, length($0) - 22)
      line = 0
      depth = words = server_depth = 0
      map = ""
      next
    }
    {
      line++
      read($0 " ")
    }
    function read(text,    i, c) {
      for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (quote != "") {
          if (c == "\\") word = word c substr(text, ++i, 1)
          else if (c == quote) { quote = ""; end_word() }
          else word = word c
        } else if (is_in_word) {
          if (c == "\\") word = word c substr(text, ++i, 1)
          else if (c == "$" && substr(text, i + 1, 1) == "{") { word = word c "{"; i++; is_variable = 1 }
          else if (is_variable && c == "}") { word = word c; is_variable = 0 }
          else if (c ~ /[ \t\r]/) end_word()
          else if (c ~ /[;{]/) { end_word(); directive(c) }
          else word = word c
        } else if (c == "#") return
        else if (c == "\"" || c == "\047") { quote = c; begin_word() }
        else if (c ~ /[;{}]/) directive(c)
        else if (c !~ /[ \t\r]/) { begin_word(); i-- }
      }
    }
    function begin_word() {
      if (words == 0) at = file ":" line
      word = ""
      is_in_word = quote == ""
    }
    function end_word() {
      part[++words] = word
      is_in_word = 0
    }
    function looks_like_setting(header) {
      if (header == "x-policy") return 0
      gsub(/[^a-z]/, "", header)
      return header ~ /^x?policy/
    }
    function directive(end,    name) {
      if (end == "}") {
        if (depth == map_depth) map = ""
        if (depth == server_depth) leave_server()
        depth--
        return
      }
      name = part[1]
      if (end == "{") depth++
      if (map != "" && end == ";") map_line()
      else if (end == "{") block(name)
      else if (name == "server_name" && server_depth && !has_name) {
        has_name = 1
        sub(/^\./, "", part[2])
        is_server[tolower(part[2])] = 1
      } else if (name == "set" && is_setting[part[2]]) {
        print at ": \"set " part[2] "\" goes on when nginx redirects a request inside, and so can open other locations." \
          " Change the map at the top of default.conf, or give the location a question of its own; the examples show both."
      } else if (name == "proxy_set_header" && looks_like_setting(tolower(part[2])) && !is_header[tolower(part[2])]) {
        print at ": " part[2] " is not a setting; snippets/policy.conf has the names of all."
      } else if (name == "auth_request" && server_depth && part[2] != "off" && part[2] != "/_apigw/decision") {
        question_at = at
      } else if (name == "set" && part[2] ~ /^\$(is_)?decision_/ && file !~ /\/snippets\/decision-cache\.conf$/) {
        print at ": \"set " part[2] "\" could have nginx answer by what nobody vouches for; include" \
          " snippets/decision-cache.conf instead."
      } else if (name == "include" && part[2] == "snippets/strict-paths.conf") is_strict = 1
      else if (name == "include" && part[2] == "snippets/gateway.conf") has_question = depth == server_depth
      else if (name == "include" && part[2] ~ /snippets\/decision-cache\.conf$/) {
        if (!server_depth || depth != server_depth || !has_question)
          print at ": snippets/decision-cache.conf belongs into a server block, after snippets/gateway.conf."
        cache_at = at
      } else if (name == "proxy_cache_path" && file ~ /\/runtime\/http\.conf$/) has_cache = 1
      words = 0
    }
    function block(name) {
      if (name == "server" && words == 1) {
        server_depth = depth
        has_name = is_strict = has_question = 0
        question_at = ""
      } else if (name == "map" && is_setting[part[3]]) {
        if (part[2] == "$server_name") { map = part[3]; map_depth = depth }
        else print at ": " part[3] " may only depend on $server_name: what comes from the request is chosen by the client," \
          " and $uri is that of the question to the gateway."
      } else if ((name == "geo" || name == "split_clients") && is_setting[part[words]]) {
        print at ": " part[words] " may only depend on $server_name."
      }
      words = 0
    }
    function map_line() {
      if (part[1] == "include") print at ": an include is not looked into here; write the lines of " map " out."
      else if (part[1] !~ /^(default|volatile|hostnames|~.*)$/) {
        key_at[++keys] = at
        key[keys] = part[1]
        key_of[keys] = map
      }
      words = 0
    }
    function leave_server() {
      server_depth = 0
      if (question_at != "" && !is_strict)
        print question_at ": WARNING: some paths of this server have a policy of their own, and it does not include" \
          " snippets/strict-paths.conf: \"/x/..;/admin/\" may be one path to nginx and another to the application."
    }
    END {
      if (cache_at != "" && !has_cache)
        print cache_at ": snippets/decision-cache.conf must be included in conf.d/*.conf itself."
      for (i = 1; i <= keys; i++) if (!(tolower(key[i]) in is_server))
        print key_at[i] ": " key_of[i] " has a line for \"" key[i] "\", which is not the first server_name of any server" \
          " (without a leading dot), so it never counts."
    }'
}

refuse() {
  own_names >&2
  exit 1
}

if ! dump >"$temp/configuration" 2>"$temp/messages"; then
  [ -s "$temp/messages" ] || echo "$nginx does not come to an end when it tests the configuration" >"$temp/messages"
  refuse <"$temp/messages"
fi
find_mistakes <"$temp/configuration" >"$temp/mistakes"
if grep -v ': WARNING: ' "$temp/mistakes" >"$temp/refused"; then refuse <"$temp/refused"; fi
cat "$temp/messages" "$temp/mistakes" | own_names

rm -rf "$prefix/before"
if [ -e "$prefix/current" ]; then mv "$prefix/current" "$prefix/before"; fi
mv "$next" "$prefix/current"
