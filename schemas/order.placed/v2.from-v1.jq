# v1 has prices as decimal text ("12.50"), v2 in whole minor units (1250).
.lines |= map(.price |= (split(".") | (.[0] | tonumber) * 100 + (.[1] | tonumber)))
