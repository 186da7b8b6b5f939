-- Random texts for wrk, so that no cache can answer; run with one thread (-t1).
--
-- Arguments after `--`, each key=value:
--   words  path of the word list             kind  short | reviews | fixed
--   texts  texts in one request              seed  of the random texts
--   rate   requests a second, spread evenly over the connections; absent: as fast as answers come
--   track  1: time each answer by its status, through X-Request-ID
--
-- Prints one line, `RESULT {json}`; times in microseconds.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_timespec;
  int clock_gettime(int clock, bench_timespec *result);
]]

local words, threads = {}, {}
local kind, texts = "short", 1
local clock = ffi.new("bench_timespec")
local next_slot, slot = 0, 0
local sent, started = 0, {}
-- Read by done() through the thread. wrk corrupts tables on that way, so times are counted in
-- plain globals: one for each status and bucket, a bucket being 2 % wide.
local STEP, BUCKETS = math.log(1.02), 1000
statuses = ""

local function now()
  ffi.C.clock_gettime(1, clock) -- 1 is CLOCK_MONOTONIC
  return tonumber(clock.seconds) * 1e6 + tonumber(clock.nanoseconds) / 1e3
end

local function word_count()
  if kind == "short" then return math.random(5, 14) end
  -- log-normal with median 40; a spread of 0.85 gives a mean near 56 words
  local normal = math.sqrt(-2 * math.log(1 - math.random())) * math.cos(2 * math.pi * math.random())
  return math.max(5, math.min(200, math.floor(40 * math.exp(0.85 * normal) + 0.5)))
end

local function random_text()
  local chosen = {}
  for i = 1, word_count() do chosen[i] = words[math.random(#words)] end
  return table.concat(chosen, " ")
end

local function body()
  local input
  if kind == "fixed" then
    input = '"the same short sentence is sent again and again"'
  elseif texts == 1 then
    input = '"' .. random_text() .. '"'
  else
    local list = {}
    for i = 1, texts do list[i] = '"' .. random_text() .. '"' end
    input = "[" .. table.concat(list, ",") .. "]"
  end
  return '{"model":"all-MiniLM-L6-v2","encoding_format":"float","input":' .. input .. "}"
end

local function answer_timed(status, headers)
  local id = tonumber(headers["x-request-id"] or headers["X-Request-ID"] or "")
  if id == nil or started[id] == nil then return end
  if not statuses:find(tostring(status), 1, true) then statuses = statuses .. status .. " " end
  local name = status .. "_" .. math.floor(math.log(math.max(1, now() - started[id])) / STEP)
  _G[name] = (_G[name] or 0) + 1
  started[id] = nil
end

-- One schedule for all connections: each free one takes the next slot.
local function wait_for_slot()
  local instant = now()
  if next_slot < instant - 1e6 then next_slot = instant end -- after a stall, do not catch up
  local wait = math.max(0, next_slot - instant)
  next_slot = next_slot + slot
  return math.floor(wait / 1e3 + 0.5)
end

function setup(thread) table.insert(threads, thread) end

function init(arguments)
  local given = {}
  for _, argument in ipairs(arguments) do
    local key, value = argument:match("^(%w+)=(.*)$")
    if key then given[key] = value end
  end
  for line in io.lines(given.words) do
    for word in line:gmatch("%S+") do words[#words + 1] = word end
  end
  kind, texts = given.kind, tonumber(given.texts)
  math.randomseed(tonumber(given.seed))
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Accept"] = "application/json"
  if given.track == "1" then response = answer_timed end
  if given.rate then
    slot, next_slot = 1e6 / tonumber(given.rate), now()
    delay = wait_for_slot
  end
  if kind == "fixed" then
    local fixed = wrk.format(nil, nil, nil, body())
    request = function() return fixed end
  elseif given.track == "1" then
    request = function()
      sent = sent + 1
      started[sent] = now()
      wrk.headers["X-Request-ID"] = string.format("%08d", sent)
      return wrk.format(nil, nil, nil, body())
    end
  else
    request = function() return wrk.format(nil, nil, nil, body()) end
  end
end

local function percentile(counts, total, share)
  local seen = 0
  for bucket = 0, BUCKETS do
    seen = seen + counts[bucket]
    if seen >= total * share then return math.exp((bucket + 0.5) * STEP) end
  end
end

local function by_status()
  local parts, thread = {}, threads[1]
  for status in thread:get("statuses"):gmatch("%d+") do
    local counts, total = {}, 0
    for bucket = 0, BUCKETS do
      counts[bucket] = thread:get(status .. "_" .. bucket) or 0
      total = total + counts[bucket]
    end
    parts[#parts + 1] = string.format(
      '"%s":{"count":%d,"p50_us":%.0f,"p99_us":%.0f,"max_us":%.0f}', status, total,
      percentile(counts, total, 0.5), percentile(counts, total, 0.99), percentile(counts, total, 1))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function done(summary, latency)
  local errors = summary.errors
  print("RESULT " .. string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,'
      .. '"bad_status":%d,"socket_errors":%d,"timeouts":%d,"by_status":%s}',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50),
    latency:percentile(99), latency.max, errors.status,
    errors.connect + errors.read + errors.write, errors.timeout, by_status()))
end
