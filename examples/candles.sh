#!/bin/sh
# Prints two years of made-up hourly candles, the same ones each time: a random walk.
exec awk '
function uniform() { seed = (seed * 16807) % 2147483647; return seed / 2147483647 }
BEGIN {
  seed = 20
  open = 20000
  print "open_time_ms,open,high,low,close,volume"
  for (bar = 0; bar < 17520; bar++) {
    last = open * (1 + 0.006 * (uniform() + uniform() + uniform() - 1.5))
    high = (last > open ? last : open) * (1 + 0.002 * uniform())
    low = (last < open ? last : open) * (1 - 0.002 * uniform())
    printf "%.0f,%.2f,%.2f,%.2f,%.2f,%d\n", 1700006400000 + bar * 3600000, open, high + 0.01, low - 0.01, last, 50 + 50 * uniform()
    open = last
  }
}'
