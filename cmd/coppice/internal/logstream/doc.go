// Package logstream writes and reads an exported log: proto/coppice/log/v1/export.proto says what
// that is.
package logstream
