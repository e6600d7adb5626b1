# What:      reads what nginx -T prints, follows its includes, and says for each mistake that nginx takes and the gateway
#            cannot stand behind: file, line, what it opens, what to write instead. docs/nginx.md has the list.
# Included:  by nothing: nginx -T | [APIGW_STRICT=true] awk -f conf-guard.awk. mawk, gawk and busybox say the same.
# Goes with: check.sh, which refuses what is said without WARNING, and snippets/*.conf, whose names and headers it knows.
# Operators: leave it as it is; APIGW_STRICT=true has no WARNING in it.

BEGIN {
  strict = ENVIRON["APIGW_STRICT"]
  if (strict !~ /^(true|false)?$/) {
    print "APIGW_STRICT is \"" strict "\"; allowed: true or false"
    is_over = 1
    exit
  }

  # --- Rules: what is said, with WARNING unless it is strict. %1 and %2 are words of the configuration. -------------------

  declare = "write \"# public\" right after the \"{\" of this block if that is meant"

  # a proxied location without a question that is not an exact, declared exemption
  say["open"] = "%1 goes to an application and nobody is asked, because no auth_request counts here." \
    " Put \"include snippets/gateway.conf;\" into its server, or " declare "."
  say["exempt"] = "%1 goes to an application and nobody is asked: auth_request is off for all that begins so or matches," \
    " and the application may read such a path as another. Exempt one exact path, \"location = /path\", or " declare "."
  say["switched off"] = "%1 goes to an application and nobody is asked: \"auth_request off\" stands around it (%2)." \
    " Take that away and exempt one exact path by an auth_request off of its own, or " declare "."
  say["raw path"] = "%1 asks nobody and hands on the path as the client wrote it: \"/admin/..%2\" arrives like that, and is" \
    " below /admin/ to some applications. Write the path behind the name, such as \"proxy_pass http://application%2;\"."
  say["raw variable"] = "%1 asks nobody and hands on %2, which the client chooses, as part of the name or of the path. Write" \
    " the path itself, such as \"proxy_pass http://application/path;\", or $uri in place of $request_uri."
  say["chosen path"] = "%1 counts where nobody is asked, and %2, which the client chooses, decides which path or file it is." \
    " Write the path or the file itself, without that variable."
  say["files"] = "%1 hands out files (%2) and nobody is asked. Put \"include snippets/gateway.conf;\" into its server and" \
    " no auth_request off here, or " declare "."
  say["marker"] = "%1 reaches the application whoever has answered auth_request. Write ${if_granted} before the name of" \
    " the upstream, \"proxy_pass http://${if_granted}application;\": it leads nowhere until the gateway has granted the request."

  # identity headers lost by inheritance
  say["lost"] = "%1 here drops every one from around it, so the application gets %2 as the client wrote it. Write" \
    " \"include snippets/proxy.conf;\" beside it."
  say["none set"] = "%1: the application gets %2 as the client wrote it. Write \"include snippets/proxy.conf;\" in this" \
    " location."
  say["no parameter"] = "%1: the application gets %2 as the client wrote it. Set each beside it, such as" \
    " \"fastcgi_param HTTP_X_CLIENT_ID $auth_client_id;\" (or uwsgi_param, scgi_param; grpc_set_header X-Client-Id)."
  say["forged"] = "%1 has the application take what the client sends (%2) for an identity. Remove this line;" \
    " \"include snippets/proxy.conf;\" sets the header."
  say["other identity"] = "%1 has the application take something else for an identity than what the gateway said. Remove this" \
    " line; \"include snippets/proxy.conf;\" sets the header."
  say["shared"] = "\"%1\" keeps answers of the application, and one client is answered with what was for another. Remove it, or" \
    " write $auth_client_id into its key, such as \"%2_key $auth_client_id$scheme$host$request_uri;\"."
  say["tunnel"] = "\"%1\" hands on whatever protocol the client asks for; with h2c that is a tunnel to the application in which" \
    " nobody is asked again. Write $forwarded_upgrade in place of $http_upgrade."
  say["no identity"] = "auth_request_set here drops those of snippets/gateway.conf, so no identity and no grant arrives" \
    " (%1). Move it into the server block, after \"include snippets/gateway.conf;\"."
  say["redirects"] = "%1: the application may choose any location of nginx by X-Accel-Redirect, the gateway's answer too," \
    " because no %2 that counts here has that. Write \"%3\" beside it."

  # the question: not internal, or cached, or with the client's headers; not the gateway's at all
  say["no question"] = "auth_request %1 leads to no \"location = %1\" of this server, so whatever else answers there" \
    " decides. Correct the name, or write \"include snippets/gateway.conf;\" into this server."
  say["not internal"] = "%1 answers auth_request and can be asked from outside, which shows the gateway's answer. Write" \
    " \"internal;\" in it, or \"include snippets/decision.conf;\" in place of its lines."
  say["cached"] = "%1 answers auth_request and %2 counts in it: one client would be answered with what was said of another." \
    " Write \"include snippets/decision.conf;\" in place of its lines."
  say["client headers"] = "%1 answers auth_request and hands the client's headers to the gateway, so a client can speak for" \
    " nginx. Write \"proxy_pass_request_headers off;\" in it, or \"include snippets/decision.conf;\" in place of its lines."
  say["client policy"] = "%1 hands the gateway %2, which the client chooses. Write the value itself, or a map by $server_name."
  say["other credential"] = "\"%1\" has the gateway decide on something else than the client's Authorization. Remove it;" \
    " snippets/decision.conf hands on $credential."
  say["other address"] = "\"%1\" has the gateway take another address for the client's, and allowed_cidrs go by that. Remove it;" \
    " snippets/decision.conf hands on $remote_addr."
  say["elsewhere"] = "%1 answers auth_request and does not ask the gateway: who answers in its place decides. Write" \
    " \"include snippets/decision.conf;\" in place of its lines."

  say["stands in"] = "\"%1\" counts in %2, which answers auth_request: what is answered there in the gateway's place can let" \
    " in. Remove it, or write \"include snippets/decision.conf;\", which has the one that is needed."
  say["before the question"] = "\"%1\" stands in %2, which answers auth_request: who gets another answer than the gateway's may" \
    " be let in by it. Remove it; the settings of a question are headers beside snippets/decision.conf."
  say["gateway"] = "\"%1\" lets a client ask the gateway itself, with headers that only nginx may send. Remove it; auth_request" \
    " asks, and the management API is below /v1/management/."

  # whatever goes past the question
  say["satisfy"] = "\"satisfy any\" lets in whom an allow or a password lets in, without the gateway. Remove it; for" \
    " addresses there is allowed_cidrs of an API client."
  say["return"] = "\"%1\" answers before anybody is asked, to everybody. Leave the answer to proxy_pass, root or try_files," \
    " or " declare "."
  say["redirect"] = "\"%1\" answers before anybody is asked, to everybody. Have the application redirect, or " declare "."
  say["rewrite"] = "\"%1\" leads to another location before anybody is asked, and the rules of this one no longer count. End" \
    " it with \"break\", or move it into the server block."
  say["leads past"] = "\"%1\" leads into %2 before anybody is asked, and nobody is asked there either. Lead it to a location" \
    " that asks; in an \"if\", " declare "."
  say["error page"] = "error_page %1 leads to %2, which goes to an application: a request that was refused would arrive there." \
    " Remove it: snippets/gateway.conf has the pages. For other statuses lead it to a file, or to a location that asks."

  say["error internal"] = "error_page %1 leads to %2, which goes to an application and asks nobody, and there are such statuses" \
    " before anybody is asked. Let that location ask, write ${if_granted} before the name of its upstream, or write" \
    " \"# public\" right after its \"{\" if that is meant."
  say["as success"] = "\"%1\" answers whoever was refused with %2, as if he had been let in. Remove \"%2\"; the status stays" \
    " what it was."
  say["chosen target"] = "\"%1\" leads where the client says, into %2 too, and nobody is asked there. Write the target without" \
    " that variable, or let that location ask."
  say["post_action"] = "\"%1\" goes to %2 after every request, one that was refused too, and nobody is asked there. Remove it," \
    " or take the auth_request off out of that location."
  say["subrequest"] = "\"%1\" counts in %2: what nginx adds to an answer is fetched without its question, so who is asked less" \
    " there, or not at all, gets what is protected elsewhere. Remove it, or move it into a location that asks the same."
  say["stream"] = "\"%1\" hands on connections, and nobody is asked about what comes in them. Remove it, or " declare "."

  say["capture"] = "\"%1\" gives $%2 another value, which the client chooses and snippets/*.conf rely on. Name the capture otherwise."
  say["any proxy"] = "\"%1\" has every client say by a header which address it has, and allowed_cidrs and limits go by that. Name" \
    " the proxy that stands in front of this one, such as \"set_real_ip_from 10.0.0.2;\"."
  say["clear"] = "%1: credentials come in clear here, and who listens on the way has them. Listen for HTTPS by \"include" \
    " runtime/listen-https.conf;\", listen on 127.0.0.1 alone, or write \"# in clear\" right after the \"{\" of the server."
  say["ours"] = "\"%1\" gives %2 another value, which snippets/*.conf rely on to know who is granted what. Choose another name."

  # settings that do not count, show secrets, or make names ambiguous
  say["ssl"] = "%1 may silently not count here: nginx takes that of the first server of the port for all of them. Move it to" \
    " ssl/ssl.conf, at http level."
  say["log"] = "log_format %1 writes %2 into the log, where clients put secrets. Write $request_path in its place, and" \
    " $logged_method, or use the format \"apigw\"."
  say["combined"] = "access_log without a format of its own, or with \"combined\", writes $request into the log, query string" \
    " and all. Write the name of a format behind the file, such as \"apigw\"."
  say["debug"] = "\"%1\" writes every header into the log, credentials too. Write \"warn\" in place of \"%2\"."
  say["rewrite_log"] = "\"rewrite_log on\" writes paths and query strings into the log, because error_log has \"%1\" here. Remove" \
    " it, or write \"warn\" in place of \"%1\"."
  say["underscores"] = "\"underscores_in_headers on\" lets a client's X_Client_Id pass, which many applications take for" \
    " X-Client-Id. Remove it."
  say["invalid"] = "\"ignore_invalid_headers off\" lets a client's X.Client.Id and the like pass, which some applications take" \
    " for X-Client-Id. Remove it."
  say["strict paths"] = "some paths of this server have a policy of their own, and it does not include" \
    " snippets/strict-paths.conf: \"/x/..;/admin/\" may be one path to nginx and another to the application."
  say["unread"] = "this file is read in a way that is not followed here, and nothing in it was looked at. Include it by its" \
    " plain name, and write no line into it that begins with \"# configuration file\"."

  # --- What the rules are about -------------------------------------------------------------------------------------------

  passes = split("proxy_pass grpc_pass fastcgi_pass uwsgi_pass scgi_pass memcached_pass", pass, " ")
  setter["proxy_pass"] = "proxy_set_header"
  setter["grpc_pass"] = "grpc_set_header"
  setter["fastcgi_pass"] = "fastcgi_param"
  setter["uwsgi_pass"] = "uwsgi_param"
  setter["scgi_pass"] = "scgi_param"
  setter["memcached_pass"] = ""
  # what an application takes for the path or the file
  of_path = "^(SCRIPT_FILENAME|SCRIPT_NAME|PATH_INFO|PATH_TRANSLATED|DOCUMENT_URI|DOCUMENT_ROOT)$"

  identities = split("X-Client-Id X-Client-Name X-Auth-Method Authorization", identity, " ")
  # what auth_request_set of gateway.conf must have filled
  vouched = "^([$]([{]auth_(client_id|client_name|method)[}]|auth_(client_id|client_name|method)))?$"
  answers = split("$auth_decision $auth_client_id $auth_client_name $auth_method", answer, " ")

  # of one certificate, which nginx chooses by name
  of_certificate = "^ssl_(certificate|certificate_key|password_file|stapling_file|reject_handshake)$"
  secret = "^(request|request_uri|request_body|args|query_string|arg_.*|http_authorization|http_proxy_authorization|http_cookie|cookie_.*)$"
  chosen = "http_.*|arg_.*|cookie_.*|args|query_string|request|request_(uri|body|method|filename)|remote_user|content_type" \
    "|ssl_server_name|ssl_alpn_protocol|ssl_client_.*"
  from_client = "^(" chosen "|uri|document_uri|host)$"
  # in an exact location $uri is its path, and $host is the name of a folder at most
  chooses_path = "^(" chosen "|host|[0-9])$"
  chooses_file = "^(" chosen "|[0-9])$"
  # elsewhere what a regular expression takes of a path is as good as $uri, which has no ".." in it
  goes_out = "^(" chosen ")$"
  as_written = "^request(_uri)?$"
  takes_captures[from_client] = takes_captures[chooses_path] = takes_captures[chooses_file] = 1
  # of these a target has few values, and none is the client's
  is_closed = "^(status|scheme|host|server_(name|port|addr)|request_(id|method))$"
  granted = "^if_granted$"
}

# --- Reading: word by word, as nginx does ----------------------------------------------------------------------------------

/^# configuration file .*:$/ && quote == "" && !is_in_word && depth == 0 && words == 0 {
  file = substr($0, 22, length($0) - 22)
  line = 0
  block = ++nodes
  # nginx prints a file once
  if (file in root) is_twice[file] = 1
  else {
    files_read[++file_count] = file
    root[file] = block
  }
  next
}
{
  line++
  read($0 "\n")
  opened = 0
}

function read(text,    c) {
  while (text != "") {
    if (quote == "\"") {
      if (!match(text, /["\\]/)) { word = word text; return }
      text = take(text)
    } else if (quote != "") {
      if (!match(text, /[\047\\]/)) { word = word text; return }
      text = take(text)
    } else if (is_in_word) {
      if (!match(text, /[ \t\r\n;{\\]/)) { word = word text; return }
      c = substr(text, RSTART, 1)
      word = word substr(text, 1, RSTART - 1)
      if (c == "\\") { word = word substr(text, RSTART, 2); text = substr(text, RSTART + 2); continue }
      text = substr(text, RSTART + 1)
      if (c == "{" && word ~ /\$$/) { word = word c; continue }
      end_word()
      if (c == ";" || c == "{") directive(c)
    } else {
      if (!match(text, /[^ \t\r\n]/)) return
      c = substr(text, RSTART, 1)
      text = substr(text, RSTART)
      if (c == "#") { comment(text); return }
      opened = 0
      if (c == ";" || c == "{" || c == "}") { text = substr(text, 2); directive(c) }
      else {
        begin_word()
        if (c == "\"" || c == "\047") { quote = c; text = substr(text, 2) }
        else is_in_word = 1
      }
    }
  }
}

# in quotes: up to their end or the next escape
function take(text,    c) {
  c = substr(text, RSTART, 1)
  word = word substr(text, 1, RSTART - 1)
  if (c == "\\") {
    word = word substr(text, RSTART, 2)
    return substr(text, RSTART + 2)
  }
  text = substr(text, RSTART + 1)
  quote = ""
  end_word()
  return text
}

function begin_word() {
  if (words == 0) begun = line
  word = ""
}

function end_word() {
  part[++words] = word
  is_in_word = 0
}

# An exemption is declared where a reader looks for it, and where grep finds it.
function comment(text) {
  if (opened && text ~ /^#[ \t]*public([^A-Za-z0-9_-]|$)/) is_public[opened] = 1
  if (opened && text ~ /^#[ \t]*in clear([^A-Za-z0-9_-]|$)/) is_clear[opened] = 1
}

function directive(end,    n, i) {
  if (end == "}") {
    if (depth > 0) block = outer[depth--]
    words = 0
    return
  }
  n = ++nodes
  count[n] = words
  for (i = 1; i <= words; i++) word_of[n, i] = part[i]
  file_of[n] = file
  place[n] = file ":" (words ? begun : line)
  child[block, ++children[block]] = n
  words = 0
  if (end == ";") return
  is_block[n] = 1
  outer[++depth] = block
  block = opened = n
}

# --- What counts where: one context for each block, with the lines of included files in it ---------------------------------

function build(from, x,    i, n, name, inner) {
  for (i = 1; i <= children[from]; i++) {
    n = child[from, i]
    name = word_of[n, 1]
    if (name == "include") { include(n, x); continue }
    own[x, ++owned[x]] = n
    item[x, name, ++number[x, name]] = n
    if (!is_block[n]) continue
    inner = ++contexts
    kind[inner] = name
    node[inner] = n
    up[inner] = x
    server[inner] = name == "server" && kind[x] == "http" ? inner : server[x]
    if (name == "location") read_location(inner)
    build(n, inner)
  }
}

function include(n, x,    i, pattern, is_glob) {
  pattern = word_of[n, 2]
  if (pattern !~ /^\//) pattern = directory pattern
  seen_include(n, x, pattern)
  is_glob = pattern ~ /[*?[]/
  if (is_glob && !(pattern in regex_of)) regex_of[pattern] = to_regex(pattern)
  for (i = 1; i <= file_count; i++) {
    if (is_glob ? files_read[i] !~ regex_of[pattern] : files_read[i] != pattern) continue
    reached[files_read[i]] = 1
    build(root[files_read[i]], x)
  }
}

function to_regex(pattern,    i, c, regex) {
  for (i = 1; i <= length(pattern); i++) {
    c = substr(pattern, i, 1)
    if (c == "*") regex = regex "[^/]*"
    else if (c == "?") regex = regex "[^/]"
    else if (c == "[" && match(substr(pattern, i), /^[[][^]]+[]]/)) {
      regex = regex (substr(pattern, i + 1, 1) == "!" ? "[^" substr(pattern, i + 2, RLENGTH - 2) : substr(pattern, i, RLENGTH))
      i += RLENGTH - 1
    } else if (c ~ /[A-Za-z0-9_\/-]/) regex = regex c
    else if (c == "^" || c == "\\") regex = regex "\\" c
    else regex = regex "[" c "]"
  }
  return "^" regex "$"
}

function seen_include(n, x, name) {
  if (name == snippets "strict-paths.conf") is_strict[server[x]] = 1
  else if (name == snippets "gateway.conf") asks[x] = 1
  else if (name == snippets "decision-cache.conf") {
    if (kind[x] != "server" || !asks[x])
      refuse(n, "snippets/decision-cache.conf belongs into a server block, after snippets/gateway.conf.")
    cached_by = n
  }
}

# "location = /x", "location =/x", "location /x", "location @x"
function read_location(x,    n) {
  n = node[x]
  sign[x] = count[n] > 2 ? word_of[n, 2] : ""
  path[x] = word_of[n, count[n]]
  if (count[n] == 2 && match(path[x], /^(=|\^~|~\*|~)/)) {
    sign[x] = substr(path[x], 1, RLENGTH)
    path[x] = substr(path[x], RLENGTH + 1)
  }
  located[server[x], ++locations[server[x]]] = x
}

# the context whose lines of that name count in x, and 0 when there is none
function counting(x, name) {
  while (x && !number[x, name]) x = up[x]
  return x
}

# the first word of the line that counts
function value(x, name) {
  x = counting(x, name)
  return x ? word_of[item[x, name, 1], 2] : ""
}

# of what nginx reads without regard to case
function flag(x, name) {
  return tolower(value(x, name))
}

function question(x,    v) {
  v = value(x, "auth_request")
  return v == "off" ? "" : v
}

# an if, or a limit_except, belongs to its location
function location_of(x) {
  while (kind[x] == "if" || kind[x] == "limit_except") x = up[x]
  return x
}

function is_declared(x) {
  if (is_public[node[x]]) return 1
  return is_public[node[server[x]]] && question(server[x]) == ""
}

function is_exempt(x) {
  return is_declared(x) || sign[x] == "=" && number[x, "auth_request"]
}

# where nginx would look, but for regular expressions
function find(s, uri,    i, x, best) {
  for (i = 1; i <= locations[s]; i++) {
    x = located[s, i]
    if (uri ~ /^@/ || sign[x] == "=") { if (path[x] == uri) return x }
    else if (sign[x] !~ /~/ || sign[x] == "^~") {
      if (index(uri, path[x]) == 1 && (!best || length(path[x]) > length(path[best]))) best = x
    }
  }
  return best
}

function passed_by(x,    i) {
  for (i = 1; i <= passes; i++) if (number[x, pass[i]]) return pass[i]
  return ""
}

# what it is passed to, without the scheme
function bare(url) {
  sub(/^([A-Za-z]+|\$[{]?scheme[}]?):\/\//, "", url)
  return url
}

# whether it is passed to this upstream, by whatever variable
function goes_to(url, name, level,    i, v, rest) {
  url = tolower(bare(url))
  sub(/^\$[{]?if_granted[}]?/, "", url)
  if (url ~ ("^" name "([:/]|$)")) return 1
  v = variable_in(url)
  if (v == "" || RSTART > 1 || level > 8) return 0
  rest = substr(url, RLENGTH + 1)
  for (i = 1; i <= values[v]; i++) if (goes_to(given[v, i] rest, name, level + 1)) return 1
  return 0
}

function text_of(n,    i, text) {
  for (i = 1; i <= count[n]; i++) text = text (i > 1 ? " " : "") word_of[n, i]
  return length(text) > 80 ? substr(text, 1, 80) "..." : text
}

# The name of the first variable in a text, which nginx reads without regard to case; "$1x" is $1 and an x.
function variable_in(text,    name) {
  if (!match(text, /\$([{][A-Za-z0-9_]+[}]|[0-9]|[A-Za-z_][A-Za-z0-9_]*)/)) return ""
  name = tolower(substr(text, RSTART + 1, RLENGTH - 1))
  gsub(/[{}]/, "", name)
  return name
}

# The first variable in a text that matches, or whose value has such a one, by map or set; deeply also one that a map is
# chosen by.
function carries(text, pattern, deeply, level,    name, i, parts, found) {
  if (level > 8) return ""
  while (name = variable_in(text)) {
    text = substr(text, RSTART + RLENGTH)
    if (name ~ pattern || pattern in takes_captures && name in is_captured && !(("$" name) in is_ours)) return "$" name
    if (name in part_of && carries(part_of[name], pattern, deeply, level + 1) != "") return "$" name
    if ((pattern == secret || pattern == goes_out) && name in captured_from && \
      carries(captured_from[name], pattern, 1, level + 1) != "") return "$" name
    parts = values[name]
    for (i = 1; i <= parts; i++) {
      found = carries(given[name, i], pattern, deeply, level + 1)
      if (found != "") return deeply ? found : "$" name
    }
    if (deeply && name in source && (found = carries(source[name], pattern, deeply, level + 1)) != "") return found
  }
  return ""
}

# --- The verdict -----------------------------------------------------------------------------------------------------------

function refuse(n, text) {
  tell(place[n] ": " text)
}

function report(rule, n, first, second, third,    text) {
  text = say[rule]
  text = fill(fill(fill(text, "%1", first), "%2", second), "%3", third)
  tell(place[n] ": " (strict == "true" ? "" : "WARNING: ") text)
}

function fill(text, mark, words,    at, out) {
  while ((at = index(text, mark)) > 0) {
    out = out substr(text, 1, at - 1) words
    text = substr(text, at + 2)
  }
  return out text
}

# what an operator has written as a credential, in the words of his line
function redact(text,    start, rest) {
  rest = tolower(text)
  while (match(rest, /(apk|bearer|basic) +[a-z0-9._~+\/=-]+/)) {
    start = length(text) - length(rest) + RSTART
    rest = substr(rest, RSTART + RLENGTH)
    text = substr(text, 1, start - 1 + index(substr(text, start), " ")) "[redacted]" substr(text, length(text) - length(rest) + 1)
  }
  return text
}

function tell(text) {
  gsub(/[[:cntrl:]]/, " ", text)
  text = redact(text)
  if (!(text in told)) print text
  told[text] = 1
}

END {
  if (is_over) exit
  if (file_count == 0) {
    print "this is not what nginx -T prints"
    exit
  }
  directory = files_read[1]
  sub(/[^\/]*$/, "", directory)
  snippets = directory "snippets/"
  contexts = 1
  kind[1] = "main"
  reached[files_read[1]] = 1
  build(root[files_read[1]], 1)
  for (i = 2; i <= file_count; i++) if (!(files_read[i] in reached)) {
    place[0] = files_read[i] ":1"
    report("unread", 0)
  }
  for (i = 1; i <= file_count; i++) if (files_read[i] in is_twice) {
    place[0] = files_read[i] ":1"
    report("unread", 0)
  }
  learn()
  for (x = 1; x <= contexts; x++) check_errors(x)
  for (x = 1; x <= contexts; x++) if (!is_http(x)) check_stream(x)
  else {
    check_settings(x)
    check_captures(x)
    check_headers(x)
    check_log(x)
    if (kind[x] == "server" || kind[x] == "location") check_place(x)
    if (kind[x] == "if") {
      check_error_pages(x)
      check_subrequests(x)
    }
    check_choice(x, location_of(x))
    if (kind[x] == "server") check_server(x)
    if (passed_by(x) != "") check_pass(x, location_of(x))
    check_early(x, location_of(x))
  }
  check_keys()
}

function is_http(x) {
  while (x && kind[x] != "http") x = up[x]
  return x
}

# names, variables, questions: what rules about one block must know of all
function learn(    x, i, n, p, t, header, list, names) {
  for (n = 1; n <= nodes; n++) {
    if (is_snippet(n)) learn_ours(n)
    learn_captures(n)
    if (word_of[n, 1] == "listen") learn_listen(n)
    if (file_of[n] != snippets "policy.conf" || word_of[n, 2] != "X-Policy") continue
    list = word_of[n, 3]
    gsub(/=\$[a-z_]*/, "", list)
    gsub(/\\t/, " ", list)
    names = split(list, p, " ")
    for (i = 1; i <= names; i++) {
      is_setting["$" tolower(p[i])] = 1
      header = "x-policy-" p[i]
      gsub("_", "-", header)
      is_header[header] = 1
    }
  }
  for (x = 1; x <= contexts; x++) {
    if (kind[x] == "map" && !takes_ours(node[x])) learn_map(x)
    for (i = 1; i <= number[x, "set"]; i++) {
      n = item[x, "set", i]
      if (!takes_ours(n)) learn_set(x, n)
    }
    if (kind[x] == "server" && server[x] == x && number[x, "server_name"]) {
      t = word_of[item[x, "server_name", 1], 2]
      sub(/^\./, "", t)
      is_server[tolower(t)] = 1
    }
    if ((kind[x] == "server" || kind[x] == "location") && question(x) != "") {
      asks_somewhere[server[x]] = 1
      t = find(server[x], question(x))
      if (t && sign[t] == "=") answers_question[t] = 1
    }
  }
  for (x = 1; x <= contexts; x++) if (passed_by(x) != "") is_passing[location_of(x)] = 1
}

function is_snippet(n) {
  return index(file_of[n], snippets) == 1 && substr(file_of[n], length(snippets) + 1) ~ /^[a-z-]+\.conf$/
}

# what the snippets define, and what they read
function learn_ours(n,    i, text, name) {
  if (defined_by(n) != "") is_ours[defined_by(n)] = n
  for (i = 1; i <= count[n]; i++)
    for (text = word_of[n, i]; name = variable_in(text); text = substr(text, RSTART + RLENGTH)) is_read["$" name] = 1
}

# Whether a line of somebody else defines a variable of the snippets, and not as they do, or one that they read: nginx lets
# $http_authorization be defined, and $upstream_http_x_client_id. Settings and $application_authorization are for operators.
function takes_ours(n,    name) {
  name = defined_by(n)
  if (name == "" || is_snippet(n) || index(file_of[n], directory "runtime/") == 1) return 0
  if (name in is_ours) return is_block[n] || text_of(n) != text_of(is_ours[name])
  return name in is_read && !(name in is_setting) && name != "$application_authorization"
}

# the variable that a line defines
function defined_by(n) {
  if (word_of[n, 1] ~ /^(set|auth_request_set|js_set|js_var|perl_set)$/) return tolower(word_of[n, 2])
  if (is_block[n] && word_of[n, 1] ~ /^(map|geo|split_clients)$/) return tolower(word_of[n, count[n]])
  return ""
}

function learn_map(x,    n, i, name, text, key) {
  name = substr(defined_by(node[x]), 2)
  source[name] = word_of[node[x], 2]
  for (i = 1; i <= owned[x]; i++) {
    n = own[x, i]
    if (count[n] < 2) continue
    key = word_of[n, 1]
    text = word_of[n, count[n]]
    if (key == "default") has_default[name] = 1
    learn_value(name, text, key)
    # "$1" is a part of what the map looks at
    if (key ~ /^~/ && text ~ /\$[1-9]/) part_of[name] = part_of[name] source[name]
    learn_source(n, source[name])
  }
}

function learn_set(x, n,    name) {
  name = substr(defined_by(n), 2)
  learn_value(name, word_of[n, 3])
  if (kind[x] != "if") has_default[name] = 1
  else if (word_of[n, 3] ~ /\$[1-9]/) part_of[name] = part_of[name] word_of[node[x], 2]
}

# what the named captures of a line are parts of
function learn_source(n, text,    i, names, name) {
  if (is_snippet(n)) return
  names = split(captured[n], name, " ")
  for (i = 1; i <= names; i++) captured_from[name[i]] = captured_from[name[i]] text
}

# of any regular expression: (?<name>...), (?'name'...), (?P<name>...)
function learn_captures(n,    i, text, name) {
  for (i = 1; i <= count[n]; i++) {
    text = word_of[n, i]
    while (match(text, /[(][?]P?[<\047][A-Za-z_][A-Za-z0-9_]*[>\047]/)) {
      name = substr(text, RSTART, RLENGTH)
      text = substr(text, RSTART + RLENGTH)
      sub(/^[(][?]P?[<\047]/, "", name)
      name = tolower(substr(name, 1, length(name) - 1))
      is_captured[name] = 1
      captured[n] = captured[n] " " name
    }
  }
  if (captured[n] && word_of[n, 1] == "if") learn_source(n, word_of[n, 2])
}

# TLS is of the address, for all servers that listen there
function learn_listen(n,    i) {
  for (i = 3; i <= count[n]; i++) if (word_of[n, i] ~ /^(ssl|quic)$/) is_tls[word_of[n, 2]] = 1
}

function learn_value(name, text, key) {
  given[name, ++values[name]] = text
  is_given_for[name, values[name]] = key
}

# --- Rules: settings of the gateway, which are refused in any case ----------------------------------------------------------

# however it is misspelt
function looks_like_setting(header) {
  if (header == "x-policy") return 0
  gsub(/[^a-z]/, "", header)
  return header ~ /^x?policy/
}

function check_settings(x,    i, n, name) {
  for (i = 1; i <= owned[x]; i++) {
    n = own[x, i]
    name = word_of[n, 1]
    if (name == "set" && (defined_by(n) in is_setting))
      refuse(n, "\"set " word_of[n, 2] "\" goes on when nginx redirects a request inside, and so can open other locations." \
        " Change the map at the top of default.conf, or give the location a question of its own; the examples show both.")
    else if (name == "set" && defined_by(n) ~ /^\$(is_)?decision_/ && file_of[n] != snippets "decision-cache.conf")
      refuse(n, "\"set " word_of[n, 2] "\" could have nginx answer by what nobody vouches for; include" \
        " snippets/decision-cache.conf instead.")
    else if (name == "proxy_set_header" && looks_like_setting(tolower(word_of[n, 2])) && \
      !is_header[tolower(word_of[n, 2])])
      refuse(n, word_of[n, 2] " is not a setting; snippets/policy.conf has the names of all.")
    else if (name == "map" && (defined_by(n) in is_setting) && word_of[n, 2] != "$server_name")
      refuse(n, word_of[n, 3] " may only depend on $server_name: what comes from the request is chosen by the client," \
        " and $uri is that of the question to the gateway.")
    else if ((name == "geo" || name == "split_clients") && (defined_by(n) in is_setting))
      refuse(n, word_of[n, count[n]] " may only depend on $server_name.")
    else if (name == "proxy_cache_path" && file_of[n] == directory "runtime/http.conf") has_cache = 1
    else if (takes_ours(n)) report("ours", n, text_of(n), defined_by(n))
  }
  if (kind[x] == "map" && (defined_by(node[x]) in is_setting) && word_of[node[x], 2] == "$server_name") check_map(x)
}

function check_captures(x,    i) {
  check_captured(node[x])
  for (i = 1; i <= owned[x]; i++) check_captured(own[x, i])
}

function check_captured(n,    i, names, name) {
  if (!captured[n] || is_snippet(n)) return
  names = split(captured[n], name, " ")
  for (i = 1; i <= names; i++)
    if (name[i] ~ /^(auth|decision|is_decision)_|^application_authorization$/ || ("$" name[i]) in is_ours || ("$" name[i]) in is_read)
      report("capture", n, text_of(n), name[i])
}

# more than any network of somebody's own, such as 10.0.0.0/8 or fc00::/7
function check_proxies(n,    size) {
  size = word_of[n, 2]
  if (!sub(/^.*\//, "", size) || word_of[n, 2] ~ /^unix:/) return
  if (size + 0 < (word_of[n, 2] ~ /:/ ? 7 : 8)) report("any proxy", n, text_of(n))
}

function check_stream(x) {
  if (kind[x] == "server" && kind[up[x]] == "stream" && number[x, "proxy_pass"] && !is_public[node[x]])
    report("stream", item[x, "proxy_pass", 1], text_of(item[x, "proxy_pass", 1]))
}

function check_errors(x,    i, j, n, y) {
  y = counting(x, "error_log")
  if (y && (y == x || number[x, "rewrite_log"]) && flag(x, "rewrite_log") == "on")
    for (i = 1; i <= number[y, "error_log"]; i++) {
      n = item[y, "error_log", i]
      if (word_of[n, count[n]] ~ /^(notice|info)$/)
        report("rewrite_log", item[counting(x, "rewrite_log"), "rewrite_log", 1], word_of[n, count[n]])
    }
  for (i = 1; i <= number[x, "error_log"]; i++) {
    n = item[x, "error_log", i]
    for (j = 3; j <= count[n]; j++) if (word_of[n, j] ~ /^debug/) report("debug", n, text_of(n), word_of[n, j])
  }
}

function check_map(x,    i, n) {
  for (i = 1; i <= children[node[x]]; i++) {
    n = child[node[x], i]
    if (word_of[n, 1] == "include")
      refuse(n, "an include is not looked into here; write the lines of " word_of[node[x], 3] " out.")
    else if (word_of[n, 1] !~ /^(default|volatile|hostnames|~.*)$/) {
      key[++keys] = n
      key_of[keys] = word_of[node[x], 3]
    }
  }
}

function check_keys(    i) {
  if (cached_by && !has_cache) refuse(cached_by, "snippets/decision-cache.conf must be included in conf.d/*.conf itself.")
  for (i = 1; i <= keys; i++) if (!(tolower(word_of[key[i], 1]) in is_server))
    refuse(key[i], key_of[i] " has a line for \"" word_of[key[i], 1] "\", which is not the first server_name of any server" \
      " (without a leading dot), so it never counts.")
}

# --- Rules: a server, and each place where a request can end ------------------------------------------------------------------

function check_server(x,    i, y, n, last) {
  for (y = x; y <= contexts; y++) if (server[y] == x)
    for (i = 1; i <= number[y, "auth_request"]; i++) {
      n = item[y, "auth_request", i]
      if (word_of[n, 2] != "off" && word_of[n, 2] != "/_apigw/decision") last = n
    }
  if (last && !is_strict[x]) report("strict paths", last)
  if (question(x) != "" && sign[find(x, question(x))] == "=" && !is_clear[node[x]] && flag(x, "ssl") != "on") check_listen(x)
}

function check_listen(x,    i, n, address) {
  if (!number[x, "listen"]) report("clear", node[x], "this server listens for plain HTTP")
  for (i = 1; i <= number[x, "listen"]; i++) {
    n = item[x, "listen", i]
    address = word_of[n, 2]
    if (!is_tls[address] && address !~ /^(unix:|127[.]|localhost(:|$)|[[]::1[]])/) report("clear", n, "\"" text_of(n) "\"")
  }
}

function check_place(x,    q) {
  check_ssl(x)
  check_error_pages(x)
  check_subrequests(x)
  q = question(x)
  if (q == "") check_files(x)
  else {
    check_question(x, q)
    if (flag(x, "satisfy") == "any") report("satisfy", item[counting(x, "satisfy"), "satisfy", 1])
  }
}

function name_of(x) {
  return "\"" text_of(node[x]) "\""
}

function check_ssl(x,    i, n) {
  for (i = 1; i <= owned[x]; i++) {
    n = own[x, i]
    if (word_of[n, 1] ~ /^ssl_/ && word_of[n, 1] !~ of_certificate) report("ssl", n, word_of[n, 1])
  }
}

# what nginx itself hands out: a place with a root that somebody has written, and no other answer
function check_files(x,    y, n) {
  y = counting(x, "alias") == x ? x : counting(x, "root")
  if (!y || is_exempt(x) || number[x, "internal"] || number[x, "return"] || number[x, "stub_status"] || passed_by(x) != "") return
  if (refuses_all(x)) return
  # what matches no other location
  if (kind[x] == "server" && find(x, "/\001")) return
  n = number[y, "alias"] ? item[y, "alias", 1] : item[y, "root", 1]
  report("files", node[x], place_name(x), text_of(n))
}

# allow and deny count together: those of the innermost block that has any
function refuses_all(x,    i) {
  if (flag(x, "satisfy") == "any") return 0
  while (x && !number[x, "allow"] && !number[x, "deny"]) x = up[x]
  if (!x || number[x, "allow"]) return 0
  for (i = 1; i <= number[x, "deny"]; i++) if (word_of[item[x, "deny", i], 2] == "all") return 1
  return 0
}

function check_question(x, q,    t, n, i, by, bad) {
  by = item[counting(x, "auth_request"), "auth_request", 1]
  t = find(server[x], q)
  if (!t || sign[t] != "=") {
    report("no question", by, q)
    return
  }
  if (is_checked[t]) return
  is_checked[t] = 1
  # of a location of ours it is the auth_request that is wrong
  n = is_snippet(node[t]) ? by : node[t]
  i = number[t, "return"] ? item[t, "return", 1] : item[t, "proxy_pass", 1]
  if (word_of[i, 1] == "return" || word_of[i, 2] != "http://gateway/decision") {
    report("elsewhere", i && n != by ? i : n, name_of(t))
    return
  }
  if (!counting(t, "internal")) report("not internal", n, name_of(t))
  check_caches(t, n)
  check_undone(t)
  if (flag(t, "proxy_pass_request_headers") != "off") report("client headers", n, name_of(t))
  for (i = 1; i <= number[t, "proxy_set_header"]; i++) {
    n = item[t, "proxy_set_header", i]
    if (is_snippet(n)) continue
    if (tolower(word_of[n, 2]) == "authorization" && tolower(word_of[n, 3]) !~ /^[$]([{](credential|http_authorization)[}]|credential|http_authorization)$/)
      report("other credential", n, text_of(n))
    if (tolower(word_of[n, 2]) == "x-client-address" && tolower(word_of[n, 3]) !~ /^[$]([{]remote_addr[}]|remote_addr)$/)
      report("other address", n, text_of(n))
    if (tolower(word_of[n, 2]) !~ /^x-policy-/) continue
    bad = carries(word_of[n, 3], from_client, 1)
    if (bad != "") report("client policy", n, word_of[n, 2], bad)
  }
}

function check_caches(t, here,    i, y, n, names, name) {
  names = split("proxy_cache proxy_store", name, " ")
  for (i = 1; i <= names; i++) {
    if (value(t, name[i]) ~ /^(off|\$decision_cache)?$/) continue
    y = counting(t, name[i])
    n = item[y, name[i], 1]
    report("cached", y == t ? n : here, name_of(t), "\"" text_of(n) "\"")
  }
  for (i = 1; i <= number[t, "proxy_cache_valid"]; i++) {
    n = item[t, "proxy_cache_valid", i]
    if (text_of(n) != "proxy_cache_valid 204 0") report("cached", n, name_of(t), "\"" text_of(n) "\"")
  }
}

# what answers a question before the gateway does, or in its place
function check_undone(t,    x, y, i, j, n, names, name) {
  y = counting(t, "error_page")
  for (i = 1; y && i <= number[y, "error_page"]; i++) {
    n = item[y, "error_page", i]
    if (!is_snippet(n)) report("stands in", n, text_of(n), name_of(t))
  }
  names = split("return rewrite try_files proxy_pass", name, " ")
  for (x = t; x <= contexts; x++) if (location_of(x) == t)
    for (i = 1; i <= names; i++) for (j = 1; j <= number[x, name[i]]; j++) {
      n = item[x, name[i], j]
      if (is_snippet(n) || name[i] == "proxy_pass" && x == t || text_of(n) ~ /^return [45][0-9][0-9]/) continue
      report("before the question", n, text_of(n), name_of(t))
    }
}

# A refusal, 401, 403 or 500, must not end at an application; for the rest the question is asked again where one is asked.
function check_error_pages(x,    y, i, n, asks) {
  y = counting(x, "error_page")
  asks = question(location_of(x)) != ""
  if (!y || (server[x], y, asks) in has_pages || answers_question[y]) return
  has_pages[server[x], y, asks] = 1
  for (i = 1; i <= number[y, "error_page"]; i++) {
    n = item[y, "error_page", i]
    if (!is_snippet(n)) check_error_page(server[x], n, asks)
  }
}

# 502 and 504 come after the question: nobody else has asked an application
function check_error_page(s, n, asks,    i, t, end, is_refusal, is_early) {
  end = word_of[n, count[n]]
  for (i = 2; i < count[n]; i++) {
    if (word_of[n, i] ~ /^(401|403|500)$/) is_refusal = 1
    if (word_of[n, i] ~ /^[0-9]+$/ && word_of[n, i] !~ /^(502|504)$/) is_early = 1
    if (is_refusal && asks && word_of[n, i] ~ /^=2/) report("as success", n, text_of(n), word_of[n, i])
  }
  follow(s, end)
  for (i = 1; i <= ends; i++) {
    t = end_of[i]
    if (answers_question[t]) continue
    if (is_end_chosen[i] && leads_past(t) && !is_marked(t) && (number[t, "internal"] || path[t] ~ /^@/))
      report("chosen target", n, text_of(n), name_of(t))
    else if (!(t in is_passing)) continue
    else if ((asks || path[t] ~ /^@/) && (is_refusal && !is_end_chosen[i] || question(t) == "" && !(sign[t] == "=" && is_exempt(t))))
      report("error page", n, end, name_of(t))
    else if (is_early && question(t) == "" && number[t, "internal"] && !is_public[node[t]] && !is_marked(t))
      report("error internal", n, end, name_of(t))
  }
}

# Where a target leads: end_of[1] to end_of[ends]. Behind a variable of which nobody knows the value it may be whatever
# begins so; of all that begins with "/" or with nothing those alone that no client can ask for.
function follow(s, text, level,    name, before, behind, i, t, found) {
  if (!level) ends = 0
  sub(/[?].*/, "", text)
  name = variable_in(text)
  before = name == "" ? text : substr(text, 1, RSTART - 1)
  behind = substr(text, RSTART + RLENGTH)
  if (name != "" && level < 8 && values[name]) {
    for (i = 1; i <= values[name]; i++) follow(s, before given[name, i] behind, level + 1)
    return
  }
  if (before ~ /^[@\/]/ && (found = name == "" ? choose(s, before) : find(s, before))) add_end(found, 0)
  if (name == "" || name ~ is_closed || before == "" && name ~ /^(document_)?uri$/) return
  for (i = 1; i <= locations[s]; i++) {
    t = located[s, i]
    if (sign[t] ~ /^~/ || before != "" && index(path[t], before) != 1 && t != found) continue
    if (length(before) > 1 || number[t, "internal"] || path[t] ~ /^@/) add_end(t, 1)
  }
}

# and from there to wherever a location that asks nobody leads on
function add_end(t, is_chosen,    i, n) {
  for (i = 1; i <= ends; i++) if (end_of[i] == t && is_end_chosen[i] == is_chosen) return
  end_of[++ends] = t
  is_end_chosen[ends] = is_chosen
  if (question(t) != "" || is_snippet(node[t])) return
  if (number[t, "try_files"]) {
    n = item[t, "try_files", 1]
    follow(server[t], word_of[n, count[n]], 1)
  }
  for (i = 1; i <= number[t, "rewrite"]; i++) {
    n = item[t, "rewrite", i]
    if (word_of[n, 4] !~ /^(break|redirect|permanent)$/) follow(server[t], word_of[n, 3], 1)
  }
}

# where nginx looks: the first regular expression that matches comes before a prefix, but before no other
function choose(s, uri,    i, t, found) {
  found = find(s, uri)
  if (uri ~ /^@/ || sign[found] ~ /^(=|\^~)$/) return found
  for (i = 1; i <= locations[s]; i++) {
    t = located[s, i]
    if (sign[t] !~ /^~/ || kind[up[t]] == "location" && index(uri, path[up[t]]) != 1) continue
    if (matches(path[t], sign[t], uri)) return t
  }
  return found
}

# of a regular expression that awk reads as PCRE does; none of the others matches
function matches(regex, how, uri) {
  gsub(/\\\//, "/", regex)
  gsub(/\\-/, "-", regex)
  if (regex ~ /[(*+?][?]|[{}"]|\\[^.]/) return 0
  return how == "~*" ? tolower(uri) ~ tolower(regex) : uri ~ regex
}

# whether it leads nowhere until the gateway has granted the request
function is_marked(t) {
  return number[t, "proxy_pass"] && begins_granted(word_of[item[t, "proxy_pass", 1], 2])
}

# what nginx asks for by itself, for an answer or after it, goes past the question
function check_subrequests(x,    i, j, n, y, t, s, names, name) {
  s = server[x]
  if (!asks_somewhere[s] || is_snippet(node[x]) || answers_question[x]) return
  y = counting(x, "post_action")
  if (y) {
    n = item[y, "post_action", 1]
    follow(s, word_of[n, 2])
    for (i = 1; i <= ends; i++) {
      t = end_of[i]
      if ((t in is_passing) && question(t) == "" && !is_marked(t)) report("post_action", n, text_of(n), name_of(t))
    }
  }
  names = split("mirror add_before_body add_after_body", name, " ")
  for (i = 1; i <= names; i++) if (y = counting(x, name[i]))
    for (j = 1; j <= number[y, name[i]]; j++) {
      n = item[y, name[i], j]
      if (word_of[n, 2] !~ /^\//) continue
      follow(s, word_of[n, 2])
      if (!ends) add_end(s, 0)
      for (t = 1; t <= ends; t++) if (asks_more(end_of[t], x)) report("subrequest", n, text_of(n), place_name(x))
    }
  if (flag(x, "ssi") != "on") return
  n = item[counting(x, "ssi"), "ssi", 1]
  if (!find(s, "/\001") && asks_more(s, x)) report("subrequest", n, text_of(n), place_name(x))
  for (i = 1; i <= locations[s]; i++) if (asks_more(located[s, i], x)) report("subrequest", n, text_of(n), place_name(x))
}

function asks_more(t, x) {
  return question(t) != "" && question(t) != question(x) && !(question(x) == "" && is_marked(t))
}

function place_name(x) {
  return kind[x] == "server" ? "this server" : name_of(x)
}

# --- Rules: what goes to an application ---------------------------------------------------------------------------------------

function check_pass(x, place_x,    n, by, q) {
  if (answers_question[place_x]) return
  by = passed_by(x)
  n = item[x, by, 1]
  q = question(place_x)
  if (q == "" && !is_exempt(place_x)) check_open(place_x)
  else if (q == "" && sign[place_x] == "=" && !is_snippet(n)) check_exact(place_x, n, by)
  if (q != "" && by == "proxy_pass" && !begins_granted(word_of[n, 2])) report("marker", n, "\"" text_of(n) "\"")
  if (by == "proxy_pass" && !is_snippet(n) && goes_to(word_of[n, 2], "gateway")) report("gateway", n, text_of(n))
  if (q != "") check_answers(place_x, n)
  if (q != "") check_shared(x, n, by)
  check_tunnel(x, by)
  if (setter[by] == "" || check_identity(place_x, n, by) && by == "proxy_pass") return
  if (asks_somewhere[server[x]]) check_redirects(place_x, n, by)
}

function check_open(x,    y) {
  y = counting(x, "auth_request")
  if (!y) report("open", node[x], name_of(x))
  else if (y == x) report("exempt", node[x], name_of(x))
  else report("switched off", node[x], name_of(x), place[item[y, "auth_request", 1]])
}

# The marker counts at the beginning of the name, its own or that of each value of a variable, or where it chooses the map:
# there by what stands for all else, which is also what is taken without it.
function begins_granted(text, level,    name, i, rest, whole, is_chosen) {
  text = bare(text)
  name = variable_in(text)
  if (name == "" || RSTART > 1 || level > 8) return 0
  if (name ~ granted) return 1
  rest = substr(text, RLENGTH + 1)
  is_chosen = name in source && carries(source[name], granted, 1) != ""
  # a variable may have no value
  if (!(name in has_default) && !leads_nowhere(rest) && !begins_granted(rest, level + 1)) return 0
  for (i = 1; i <= values[name]; i++) {
    if (is_chosen && is_given_for[name, i] !~ /^(default$|~)/) continue
    whole = given[name, i] rest
    if (!leads_nowhere(whole) && !begins_granted(whole, level + 1)) return 0
  }
  return values[name] > 0
}

function leads_nowhere(url) {
  return bare(url) ~ /^([:\/]|$)|^[a-z.-]*[.]invalid([:\/]|$)/
}

# a cache of the application's answers, which is looked into once the client is let in, whoever that is
function check_shared(x, n, by,    cache, y, z, i, m) {
  cache = by
  sub(/_pass$/, "_cache", cache)
  y = counting(x, cache)
  if (!y || value(x, cache) == "off") return
  z = counting(x, cache "_key")
  if (z) {
    m = item[z, cache "_key", 1]
    for (i = 2; i <= count[m]; i++) if (carries(word_of[m, i], "^auth_client_id$") != "") return
  }
  report("shared", item[y, cache, 1], text_of(item[y, cache, 1]), cache)
}

function check_tunnel(x, by,    y, i, m) {
  if (by != "proxy_pass") return
  y = counting(x, "proxy_set_header")
  for (i = 1; y && i <= number[y, "proxy_set_header"]; i++) {
    m = item[y, "proxy_set_header", i]
    if (tolower(word_of[m, 2]) == "upgrade" && carries(word_of[m, 3], "^http_upgrade$") != "") report("tunnel", m, text_of(m))
  }
}

# What is exempt must be one path to the application as well, however nginx comes to it.
function check_exact(x, n, by,    url, bad, i, y, m) {
  if (is_public[node[server[x]]]) return
  if (setter[by] ~ /_param$/) {
    y = counting(x, setter[by])
    for (i = 1; y && i <= number[y, setter[by]]; i++) {
      m = item[y, setter[by], i]
      bad = carries(word_of[m, 3], word_of[m, 2] ~ of_path ? chooses_path : as_written)
      if (bad != "") report("raw variable", m, "\"" text_of(m) "\"", bad)
    }
    return
  }
  url = by == "memcached_pass" ? "$memcached_key" : bare(word_of[n, 2])
  if (begins_granted(url)) return
  # a query string behind a path stays one
  sub(/([?]|[$][{]?is_args[}]?)[$][{]?(args|query_string)[}]?$/, "", url)
  bad = carries(url, chooses_path)
  if (bad != "") report("raw variable", n, "\"" text_of(n) "\"", bad)
  # what is internal has a path of nginx's, not the client's
  else if (by ~ /^(proxy|grpc)_pass$/ && !number[x, "internal"] && !has_path(url) && !is_rewritten(x))
    report("raw path", n, "\"" text_of(n) "\"", path[x])
}

# The path or the file that is handed on where nobody is asked, by whatever else says so.
function check_choice(x, place_x,    i, j, n, names, name, pattern, bad) {
  if (kind[x] !~ /^(server|location|if)$/ || question(place_x) != "" || is_snippet(node[place_x])) return
  pattern = sign[place_x] == "=" && !is_public[node[server[x]]] ? chooses_file : goes_out
  names = split("root alias try_files index rewrite", name, " ")
  for (i = 1; i <= names; i++) for (j = 1; j <= number[x, name[i]]; j++) {
    n = item[x, name[i], j]
    if (name[i] == "rewrite" && (kind[place_x] == "server" || word_of[n, 4] != "break")) continue
    if (name[i] == "try_files") bad = check_tried(server[x], n, pattern)
    else bad = carries(path_in(name[i] == "index" ? text_of(n) : word_of[n, name[i] == "rewrite" ? 3 : 2]), pattern)
    if (bad != "") report("chosen path", n, "\"" text_of(n) "\"", bad)
  }
}

function path_in(url) {
  sub(/[?].*/, "", url)
  return url
}

function check_tried(s, n, pattern,    i, bad) {
  for (i = 2; i < count[n] && bad == ""; i++) bad = carries(word_of[n, i], pattern)
  follow(s, word_of[n, count[n]])
  for (i = 1; i <= ends; i++)
    if (is_end_chosen[i] && number[end_of[i], "internal"] && leads_past(end_of[i]) && !is_marked(end_of[i]))
      report("chosen target", n, text_of(n), name_of(end_of[i]))
  return bad
}

function has_path(url) {
  return url ~ /^unix:/ ? url ~ /^unix:[^:]*:\// : url ~ /^[^\/]+\/|[$][{]?(document_)?uri([^a-z_]|$)/
}

# whether nginx takes another path than the client's in any case: "rewrite ^ /status break;"
function is_rewritten(x,    i, n) {
  for (i = 1; i <= number[x, "rewrite"]; i++) {
    n = item[x, "rewrite", i]
    if (word_of[n, 2] == "^" && word_of[n, 3] ~ /^\/[^$]*$/ && word_of[n, 4] == "break") return 1
  }
  return 0
}

# 1 when something is wrong
function check_identity(x, n, by,    y, i, j, m, header, lost, bad, off) {
  off = by
  sub(/_pass$/, "_pass_request_headers", off)
  if (flag(x, off) == "off") return 0
  y = counting(x, setter[by])
  for (i = 1; i <= identities; i++) {
    header = identity[i]
    if (setter[by] ~ /_param$/) {
      header = "HTTP_" toupper(header)
      gsub("-", "_", header)
    }
    m = 0
    for (j = 1; y && j <= number[y, setter[by]]; j++) if (tolower(word_of[item[y, setter[by], j], 2]) == tolower(header)) {
      m = item[y, setter[by], j]
      if (i == identities) continue
      bad = carries(word_of[m, 3], from_client, 1)
      if (bad != "") report("forged", m, "\"" text_of(m) "\"", bad)
      else if (tolower(word_of[m, 3]) !~ vouched) report("other identity", m, "\"" text_of(m) "\"")
    }
    if (!m) lost = lost (lost == "" ? "" : ", ") identity[i]
  }
  if (lost == "") return 0
  if (by != "proxy_pass") report("no parameter", n, text_of(n), lost)
  else if (y == x) report("lost", item[y, "proxy_set_header", 1], "proxy_set_header", lost)
  else report("none set", n, text_of(n), lost)
  return 1
}

function check_answers(x, n,    y, i, j, missing, is_there) {
  y = counting(x, "auth_request_set")
  for (i = 1; i <= answers; i++) {
    is_there = 0
    for (j = 1; y && j <= number[y, "auth_request_set"]; j++) if (tolower(word_of[item[y, "auth_request_set", j], 2]) == answer[i]) is_there = 1
    if (!is_there) missing = missing (missing == "" ? "" : ", ") answer[i]
  }
  if (missing != "") report("no identity", y ? item[y, "auth_request_set", 1] : n, missing)
}

function check_redirects(x, n, by,    y, i, j, m, name) {
  name = by
  sub(/_pass$/, "_ignore_headers", name)
  y = counting(x, name)
  for (i = 1; y && i <= number[y, name]; i++) {
    m = item[y, name, i]
    for (j = 2; j <= count[m]; j++) if (tolower(word_of[m, j]) == "x-accel-redirect") return
  }
  report("redirects", y == x ? item[y, name, 1] : n, text_of(n), name, \
    by == "proxy_pass" ? "include snippets/proxy.conf;" : name " X-Accel-Redirect;")
}

# --- Rules: answers before the question, logs, names of headers ----------------------------------------------------------------

function check_early(x, place_x,    i, n, end, to) {
  if (kind[x] !~ /^(server|location|if)$/ || question(place_x) == "") return
  if (answers_question[place_x] || is_public[node[x]] || is_public[node[place_x]]) return
  for (i = 1; i <= number[x, "return"]; i++) {
    n = item[x, "return", i]
    if (word_of[n, 2] !~ /^[45][0-9][0-9]$/) report("return", n, text_of(n))
  }
  for (i = 1; i <= number[x, "rewrite"]; i++) {
    n = item[x, "rewrite", i]
    to = word_of[n, 3]
    end = count[n] > 3 ? word_of[n, 4] : ""
    if (end == "redirect" || end == "permanent" || to ~ /^(https?:\/\/|\$scheme)/) report("redirect", n, text_of(n))
    else if (kind[place_x] == "server") check_target(x, n, place_x, to)
    else if (end != "break") report("rewrite", n, text_of(n))
  }
}

# A rewrite of the server that leads past the question. One of exactly one path is an exemption like another.
function check_target(x, n, s, to,    i, t, from) {
  from = word_of[n, 2]
  gsub(/\\[.\/-]/, "_", from)
  if (kind[x] == "server" && from ~ /^\^[A-Za-z0-9_\/~-]*\$$/) return
  follow(s, to)
  for (i = 1; i <= ends; i++) {
    t = end_of[i]
    if (leads_past(t) && !is_marked(t) && path[t] !~ /^@/) report("leads past", n, text_of(n), name_of(t))
  }
}

function leads_past(t) {
  return t && question(t) == "" && !is_snippet(node[t]) && !number[t, "return"] && !refuses_all(t)
}

function check_log(x,    i, j, n, bad) {
  for (i = 1; i <= number[x, "log_format"]; i++) {
    n = item[x, "log_format", i]
    for (j = 3; j <= count[n]; j++) {
      bad = carries(word_of[n, j], secret)
      if (bad != "") report("log", n, word_of[n, 2], bad)
    }
  }
  for (i = 1; i <= number[x, "access_log"]; i++) {
    n = item[x, "access_log", i]
    if (word_of[n, 2] != "off" && (count[n] < 3 || word_of[n, 3] == "combined")) report("combined", n)
  }
}

function check_headers(x,    i) {
  for (i = 1; i <= number[x, "set_real_ip_from"]; i++) check_proxies(item[x, "set_real_ip_from", i])
  if (number[x, "underscores_in_headers"] && flag(x, "underscores_in_headers") == "on")
    report("underscores", item[x, "underscores_in_headers", 1])
  if (number[x, "ignore_invalid_headers"] && flag(x, "ignore_invalid_headers") == "off")
    report("invalid", item[x, "ignore_invalid_headers", 1])
}
