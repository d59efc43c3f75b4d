// Package host owns the listener of a process: one port for all services, its bounds, its
// certificate and tokens, and a table of routes that other packages fill. View shows the process to
// the admin service and carries out kills.
//
// The child that serves may end and start again. The Host outlives it, and every incarnation
// listens on the same port.
package host
