-- What clients ask of the service: mostly pages, some of which fail or take too
-- long, and now and then they leave an event.

local paths = {"/page?first=10", "/page?first=14"} -- a broken part, a slow one
local count = 0

request = function()
  count = count + 1
  if count % 50 == 0 then
    return wrk.format("GET", paths[count / 50 % 2 + 1])
  elseif count % 10 == 0 then
    return wrk.format("POST", "/events", {["Content-Type"] = "application/json"}, "{}")
  end
  return wrk.format("GET", "/page")
end
