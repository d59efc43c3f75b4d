// Package metrics exports a node's metrics to Prometheus, in a registry of its own. docs/metrics.md
// lists all metrics.
//
// The parts of the node update counters and histograms with atomic operations. Gauges are read at a
// scrape and cost nothing between scrapes. If a part of the node does not answer a scrape in time,
// its gauges are left out, and coppice_scrape_answered says so. The figures of the tree, the
// engines and the event log are read without a call to any of them, so they are present whatever
// the node is doing.
//
// The number of labels is limited: paths of the tree (instances of a dynamic supervisor share one),
// names of engines, kinds of records, codes, and methods of the API.
package metrics
