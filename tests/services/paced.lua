-- Clients that ask for less than there is.

delay = function()
  return 50 -- milliseconds
end
