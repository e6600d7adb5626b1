-- What wrk does for every set-up, so that the load costs the same everywhere: each thread takes its share of a file with
-- one Authorization value a line, sends one after the other, and begins anew at its end. Prints one line of JSON.
-- Arguments: the file, the number of threads.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  threads[#threads + 1] = thread
end

function init(args)
  requests = {}
  sent = 0
  local line_number = 0
  for line in io.lines(args[1]) do
    -- a file shorter than the threads are many is everybody's
    if line_number % tonumber(args[2]) == number or line_number == 0 then
      wrk.headers["Authorization"] = line
      requests[#requests + 1] = wrk.format()
    end
    line_number = line_number + 1
  end
  -- the first line is there for threads without one of their own
  if #requests > 1 and number > 0 then table.remove(requests, 1) end
  count = #requests
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % count + 1]
end

function done(summary, latency)
  local used = 0
  for _, thread in ipairs(threads) do
    used = math.max(used, thread:get("sent") / thread:get("count"))
  end
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"microseconds":%d,"p50":%.0f,"p99":%.0f,"non_2xx":%d,"socket_errors":%d,"file_used":%.4f}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, used))
end
