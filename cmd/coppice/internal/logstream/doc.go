// Package logstream writes and reads exported logs, whose format proto/coppice/log/v1/export.proto
// defines.
package logstream
