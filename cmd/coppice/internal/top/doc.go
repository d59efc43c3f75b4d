// Package top is the terminal view of a node: "coppice top".
//
// A Model is the whole view. Its Update and View are pure functions of the messages that it gets;
// what it asks of the node is in the commands that Update returns, and in the streams of a feed. So
// the view is tested without a terminal and without a node.
//
// A view is made of lines of spans. render alone turns spans into text for a terminal, and makes
// each of them plain first, so no view can let the node's text act on the terminal.
package top
