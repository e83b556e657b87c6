"""Published data sets: their archives, fetched, unpacked and checked."""
