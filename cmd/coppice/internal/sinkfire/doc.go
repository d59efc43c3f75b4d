// Package sinkfire has the campaigns of streams with whole coppice processes and real servers: the
// nodes, the servers of their sinks and the plugins are killed under load, and "streams verify" and
// a second client of each server say what is left. The campaigns run with COPPICE_SOAK=1.
package sinkfire
