// Package servers starts PostgreSQL, NATS and a stand-in for Kafka for tests, each in processes of
// its own on the loopback interface, so that a test can kill one with SIGKILL and start it again on
// the same port and data.
//
// PostgreSQL is Debian's package postgresql-15. The programs of the other two are built from
// modules, by programs/go.mod: that module is outside of go.work, so neither the node nor a program
// that embeds one of our modules gets their dependencies.
package servers
