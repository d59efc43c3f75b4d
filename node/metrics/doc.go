// Package metrics is what a node tells Prometheus, in a registry of its own: docs/metrics.md lists
// it all.
//
// Counters and histograms are told by those who count, with atomic operations; gauges are asked for
// at a scrape, and cost nothing between scrapes. A part of the node that does not answer a scrape
// in time is left out of it, and coppice_scrape_answered says so: the figures of the tree, the
// engines and the event log are read without asking anybody, and are there whatever the node is
// doing.
//
// Labels are bounded: paths of the tree (instances of a dynamic supervisor share one), names of
// engines, kinds of records, codes, and methods of the API.
package metrics
