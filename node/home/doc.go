// Package home manages the files of a node's home: where they lie, how a home is made, its format,
// its lock, its genesis and its tokens.
package home
