// Package progress reports how far the long steps of a start have come.
package progress
