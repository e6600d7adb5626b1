-- wrk with a pause before each request of a connection, one Authorization value of a file after the other. Prints a line of
-- JSON, times in microseconds. Arguments: the file, the pause in milliseconds.

function init(args)
  pause = tonumber(args[2])
  lines = {}
  for line in io.lines(args[1]) do lines[#lines + 1] = line end
  sent = 0
end

function delay()
  return pause
end

function request()
  sent = sent + 1
  wrk.headers["Authorization"] = lines[(sent - 1) % #lines + 1]
  return wrk.format()
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"microseconds":%d,"p50":%.0f,"p99":%.0f,"refused":%d,"broken":%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write))
end
