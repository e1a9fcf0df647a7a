package main

// reasons say, by scenario, why a peer is as good there or better. Written by hand; only what is known to be true.
var reasons = map[string]string{}

// goalReasons say, by scenario and figure as "scenario/figure", why a goal is not reached. Written by hand.
var goalReasons = map[string]string{}
